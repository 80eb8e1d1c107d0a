"""`jomni talk`: conversations with recordings, and the files that tell of them."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jomni import audio
from jomni.cli import omni_talk
from jomni.cli.arguments import MAX_TAIL
from jomni.cli.console import meter, say, say_recording, working
from jomni.cli.files import Place, output_files, unique_names, write_audio, writing
from jomni.cli.model import codec_of, device, load_model, open_model, refuse_options
from jomni.errors import ConfigError

if TYPE_CHECKING:
    from jomni.checkpoints.checkpoint import CheckpointSource
    from jomni.models.moshi.conversation import Transcript

SILENCE = 2.0
"""Seconds that the agent must have been silent before a conversation ends."""

_SAMPLING = ("temperature", "text_temperature", "top_k", "text_top_k", "guidance")
_HIBIKI_EOS = 2  # sentencepiece's end of sentence: the translation is complete


class Places(NamedTuple):
    """The output files of one conversation."""

    json: Place
    wav: Place | None  # None: the model has no voice
    png: Place | None  # None: no picture was asked for


def talk(options: Namespace) -> None:
    """Run `jomni talk`."""
    infos = [audio.inspect(path) for path in options.inputs]
    opened = open_model(options.model)
    if "omni" in opened.configs:
        omni_talk.talk(options, opened, infos)
        return
    refuse_options(options, omni_talk.OPTIONS, "that take turns (Mini-Omni)")
    codec = codec_of(opened)
    plan = plan_of(opened, MAX_TAIL if options.tail is None else options.tail)
    endings = ["json", *(["wav"] if plan.voice else []), *(["png"] if options.plot else [])]
    names = unique_names(options.inputs)
    wanted = [f"{name}.{ending}" for name in names for ending in endings]
    with output_files(options.out, wanted, force=options.force, inputs=options.inputs) as files:
        places = [Places(files[f"{name}.json"], files.get(f"{name}.wav"), files.get(f"{name}.png")) for name in names]
        for info in infos:
            say_recording(info, codec.sample_rate)
        told = _talk(options, plan, infos, places)
    for line in told:
        say(line)


def _talk(options: Namespace, plan: Plan, infos: Sequence[audio.AudioInfo], places: Sequence[Places]) -> list[str]:
    """Hold the conversations and fill their files; return the notes about them."""
    import jomni
    from jomni.models.moshi.conversation import Frame, converse, transcribe

    with device(options.device) as chosen:
        checkpoint, dtype = load_model(options, chosen)
        duplex = jomni.Duplex.from_checkpoint(checkpoint, plan.guidance)
        params = duplex.prepare(checkpoint.params)
        codec, slots = duplex.mimi.config, len(infos)
        waveforms = [audio.read(info.path, codec.sample_rate) for info in infos]
        fed = [np.pad(wave, (round(plan.lead_in * codec.sample_rate), 0)) for wave in waveforms]
        wanted = {"temperature": options.temperature, "text_temperature": options.text_temperature}
        controls = duplex.controls(slots, **{name: value for name, value in wanted.items() if value is not None})
        with working("compiling"):
            coming = converse(
                duplex, params, fed, seed=options.seed, controls=controls, silence=plan.silence, tail=plan.tail,
                conditions=_descriptions(plan.condition, slots), unguided=_descriptions(plan.opposite, slots),
                end_code=plan.end_code, end_token=plan.end_token,
            )  # fmt: skip
        frames: list[Frame] = []
        with meter("talking", max(map(len, fed)) / codec.sample_rate + plan.tail) as progress:
            for frame in coming:
                frames.append(frame)
                progress.done(1 / codec.frame_rate)
    settings = {
        "model": options.model, "model_type": checkpoint.model_type, "dtype": dtype,
        "device": f"{chosen.platform}: {chosen.device_kind}", "batch": slots, "silence_seconds": plan.silence,
        "tail_seconds": plan.tail, "lead_in_seconds": plan.lead_in,
    }  # fmt: skip
    told: list[str] = []
    for b, (info, wave, place) in enumerate(zip(infos, waveforms, places, strict=True)):
        sampling = {name: json.loads(str(np.asarray(getattr(controls, name))[b])) for name in _SAMPLING}
        mine = settings | {"slot": b, "seed": options.seed + b} | sampling
        told += _write(place, info, wave, transcribe(frames, checkpoint, b, plan.lead_in), mine)
    if checkpoint.tokenizer is None:
        told.append(f"{options.model}: brings no text tokenizer, so the text is given as tokens only")
    return [*told, f"talked {progress}"]


def _write(
    place: Places, info: audio.AudioInfo, wave: np.ndarray, transcript: Transcript, settings: dict[str, Any]
) -> list[str]:
    """Write one conversation's results to their temporary files; return the notes about them."""
    from jomni.cli.report import report_of, summary, write_report

    report = report_of(info, transcript, settings)
    with writing(place.json.final):
        write_report(place.json.part, report)
    told = [f"{place.json.final}: {summary(report)}"]
    if place.wav is not None:
        told += write_audio(place.wav, transcript.voice, transcript.codec.sample_rate)
    if place.png is not None:
        from jomni.plot import plot_conversation

        title = f"{info.path.name}, {settings['model']}, seed {settings['seed']}"
        with writing(place.png.final), place.png.part.open("wb") as file:
            plot_conversation(wave, transcript, title).savefig(file, format="png")
    return told


def _descriptions(text: str | None, slots: int) -> dict[str, list[str]] | None:
    return None if text is None else {"description": [text] * slots}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a kind of model needs around a conversation (moshi/run_inference.py)."""

    tail: float  # longest silence fed after a recording, seconds
    voice: bool  # the model speaks
    silence: float = SILENCE  # seconds of the agent's silence that end a conversation
    lead_in: float = 0.0  # silence fed before a recording, seconds
    condition: str | None = None  # the text condition "description"
    opposite: str | None = None  # that of the unguided branch
    guidance: Any = None
    end_code: int | None = None
    end_token: int | None = None


def plan_of(opened: CheckpointSource, tail: float) -> Plan:
    """Return what a model's kind asks for.

    Raises:
      ConfigError: it is a kind of model that does not hold conversations with recordings.
    """
    from jomni.models.moshi.generate import Guidance

    lm, kind = opened.configs.get("lm"), opened.model_type
    if lm is None:
        raise ConfigError(f"{opened.source}: is a codec alone. Give a language model, as kyutai/moshiko-pytorch-bf16.")
    if kind == "tts" or opened.settings.get("tts_config"):
        raise ConfigError(f"{opened.source}: is a text-to-speech model, which does not listen. Give another model.")
    plan = Plan(tail, voice=lm.dep_q > 0)
    if kind == "stt":
        stt = opened.settings.get("stt_config") or {}
        # The text comes that much after the speech: so long must the silence be before it means the end.
        wait = float(stt.get("audio_delay_seconds", 0.0)) + 1.0
        lead_in = float(stt.get("audio_silence_prefix_seconds", 0.0))
        return dataclasses.replace(plan, silence=max(SILENCE, wait), lead_in=lead_in)
    conditioned = bool(lm.conditioners and lm.fuser and (lm.fuser.sum or lm.fuser.cross))
    if kind == "hibiki":
        plan = dataclasses.replace(plan, end_code=lm.card, end_token=_HIBIKI_EOS)
        if not conditioned:
            return plan
        guided = float(opened.generation.get("cfg_coef", 1.0)) != 1.0
        return dataclasses.replace(
            plan, condition="very_good", opposite="very_bad" if guided else None,
            guidance=Guidance() if guided else None,
        )  # fmt: skip
    if conditioned:
        names = ", ".join(c.name for c in lm.conditioners)
        raise ConfigError(
            f"{opened.source}: takes conditions ({names}), of which jomni talk knows only Hibiki's. "
            "Use jomni.models.moshi.conversation.converse with your own."
        )
    return plan
