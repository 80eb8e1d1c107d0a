"""Settings of a conversation for each kind of Moshi checkpoint (moshi/run_inference.py)."""

from __future__ import annotations

import dataclasses

from jomni.errors import ConfigError
from jomni.models.moshi.generate import Guidance
from jomni.tensors.component import Described

SILENCE = 2.0
"""Seconds of the agent's silence that end a conversation."""

_HIBIKI_EOS = 2  # sentencepiece's end of sentence: the translation is complete


@dataclasses.dataclass(frozen=True)
class ConversationPlan:
    """Arguments of `converse` and `Duplex.from_checkpoint` that depend on the kind of model."""

    speaks: bool  # the model has a depth transformer
    silence: float = SILENCE  # seconds of the agent's silence that end a conversation
    lead_in: float = 0.0  # silence fed before a recording, seconds
    condition: str | None = None  # value of the text condition "description"
    unguided: str | None = None  # the same for the unguided branch of guidance
    guidance: Guidance | None = None
    end_code: int | None = None  # see `converse`
    end_token: int | None = None  # see `converse`

    def conditions(self, batch: int) -> tuple[dict[str, list[str]] | None, dict[str, list[str]] | None]:
        """Return the arguments `conditions` and `unguided` of `converse`."""
        return _rows(self.condition, batch), _rows(self.unguided, batch)


def _rows(text: str | None, batch: int) -> dict[str, list[str]] | None:
    return None if text is None else {"description": [text] * batch}


def plan_conversation(model: Described) -> ConversationPlan:
    """Return the settings of a conversation for a kind of checkpoint: dialogue, speech to text or Hibiki.

    Raises:
      ConfigError: the model does not hold conversations with recordings, or takes conditions other than Hibiki's.
    """
    lm, kind = model.configs.get("lm"), model.model_type
    if lm is None:
        raise ConfigError(f"{model.source}: is a codec alone. Give a language model, as kyutai/moshiko-pytorch-bf16.")
    if kind == "tts" or model.settings.get("tts_config"):
        raise ConfigError(f"{model.source}: is a text-to-speech model, which does not listen. Give another model.")
    plan = ConversationPlan(speaks=lm.dep_q > 0)
    if kind == "stt":
        stt = model.settings.get("stt_config") or {}
        # The text is delayed by this time, so a shorter silence does not mean the end.
        wait = float(stt.get("audio_delay_seconds", 0.0)) + 1.0
        lead_in = float(stt.get("audio_silence_prefix_seconds", 0.0))
        return dataclasses.replace(plan, silence=max(SILENCE, wait), lead_in=lead_in)
    conditioned = bool(lm.conditioners and lm.fuser and (lm.fuser.sum or lm.fuser.cross))
    if kind == "hibiki":
        plan = dataclasses.replace(plan, end_code=lm.card, end_token=_HIBIKI_EOS)
        if not conditioned:
            return plan
        guided = float(model.generation.get("cfg_coef", 1.0)) != 1.0
        return dataclasses.replace(
            plan, condition="very_good", unguided="very_bad" if guided else None,
            guidance=Guidance() if guided else None,
        )  # fmt: skip
    if conditioned:
        names = ", ".join(c.name for c in lm.conditioners)
        raise ConfigError(
            f"{model.source}: takes conditions ({names}), and only Hibiki's are set automatically. Pass your own to "
            "jomni.converse."
        )
    return plan
