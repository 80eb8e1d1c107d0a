"""Mini-Omni's training, "Any Model Can Talk" (arXiv:2408.16725, 3.4): a text decoder learns speech in three stages.

Each stage freezes other parts, given by the paths of their parameters. The parameters are those of `MiniOmni` and,
under "whisper", those of the speech encoder. Each token table (embedding and head) is two parameters here, so that
they can be frozen apart: "text" with the rows of the text decoder, and "new" with the added rows, which include the
text's special tokens.

Axes: B rows, A audio streams, T steps, S samples, F frames of the speech encoder, W its width, V text tokens,
U tokens of an audio stream.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import jomni
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.detect import detect
from jomni.errors import ConfigError
from jomni.generation.tokenizer import TextTokenizer
from jomni.models.mini_omni import MiniOmni, MiniOmniConfig, Vocabulary, add_speech_parts, place_features, set_apart
from jomni.models.mini_omni.weights import check_neighbours
from jomni.models.whisper import WhisperConfig, WhisperEncoder, log_mel
from jomni.nn.layers import LoRA
from jomni.tensors.weight_map import flatten, unflatten
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import Tree, check_patterns, frozen_paths
from jomni.train.gradient_task import GradientConfig, GradientState, GradientTask
from jomni.train.lora import LoRAConfig, fuse
from jomni.train.task import Batch, Metrics
from jomni.train.tasks.mini_omni_data import OmniData
from jomni.train.tasks.mini_omni_loss import OmniLossConfig, omni_counts, omni_loss

# Stage 1 trains the added parts: adapters, and the new rows of embedding and head. Without a post-adapter, which has a
# head of its own, Mini-Omni predicts text and audio with one head, so audio needs its new rows. The rows of the text
# and the backbone stay frozen, which leaves the text logits unchanged.
ALIGN = ("whisper/", r"backbone/(?!.*/new$).")
"""Parts frozen in stage 1, modality alignment: the speech encoder and the text model."""

# Stage 2 has no audio targets: the rows of audio tokens would get no gradient, only weight decay.
ADAPT = (r"(whisper|whisper_adapter|post_adapter)/", r"backbone/.*/new$")
"""Parts frozen in stage 2, adaptation: those that stage 1 trained. The text model learns to answer speech in text."""

ALL = ("whisper/",)
"""Parts frozen in stage 3: only the speech encoder."""

_TABLES = ("backbone/embed_tokens/weight", "backbone/lm_head/weight")
_BEYOND_LORA = re.compile(r"backbone/.*(/lora_[AB]|/new)$")


@dataclasses.dataclass(frozen=True)
class VoiceConfig:
    """Parts that give a text decoder speech input and output. The defaults are Mini-Omni's."""

    adapter: str = "llamamlp"  # kind of the adapter after the speech encoder: "llamamlp" or "mlp"
    post_adapter_layers: int = 0  # layers between the backbone and a separate audio head; 0: one head for all streams
    merge: str = "mean"  # of the streams' embeddings: "mean", as Mini-Omni, or "sum", which keeps the text's scale
    text_special: int = 64  # rows for special tokens of the text
    audio_size: int = 4096  # entries of a codebook
    audio_special: int = 64  # rows for special tokens of each audio stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class OmniConfig(GradientConfig):
    """A Mini-Omni, its data and its training options. Needs `backbone`, a text decoder, or `init_from`, an export."""

    data: OmniData  # training data
    valid: OmniData | None = mutable_on_resume(None)  # held-out data
    backbone: str | None = None  # checkpoint of a text decoder, to which speech input and output are added
    voice: VoiceConfig = dataclasses.field(default_factory=VoiceConfig)  # the parts added to `backbone`
    init_from: str | None = None  # export of an earlier stage
    encoder: str | None = None  # checkpoint of the speech encoder, a Whisper
    encoder_model: WhisperConfig | None = None  # or a speech encoder with random weights; neither: that of init_from
    codec: str | None = mutable_on_resume(None)  # checkpoint of the SNAC to export; none: that of init_from
    freeze: tuple[str, ...] = ALL  # frozen parameters: patterns that match the start of their paths
    lora: LoRAConfig | None = None  # train only low-rank adapters and new rows of the backbone; the export is fused
    loss: OmniLossConfig = dataclasses.field(default_factory=OmniLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patterns(self.freeze)
        if (self.backbone is None) == (self.init_from is None):
            raise ConfigError("give either 'backbone' (a text decoder) or 'init_from' (an export), and not both")
        if (self.encoder is not None) + (self.encoder_model is not None) != (self.init_from is None):
            raise ConfigError(
                "'backbone' needs a speech encoder: give either 'encoder' (a Whisper) or 'encoder_model' (random "
                "weights). With 'init_from' give neither: an export contains its own"
            )
        if self.lora is not None and self.lora.embeddings:
            raise ConfigError(
                "'lora.embeddings' is for Moshi. Here only new rows are trained, and the rows of the text are frozen"
            )

    def build(self, steps: int) -> OmniTask:
        """Return the task. Reads the configurations and the tokenizer of the checkpoints, not their weights.

        Raises:
          ConfigError, WeightsError: files are missing or damaged, or do not fit together.
        """
        return OmniTask(self, steps)


@dataclasses.dataclass(frozen=True)
class OmniModel:
    """Configuration and files of a Mini-Omni with its speech encoder."""

    config: MiniOmniConfig
    encoder: WhisperConfig
    files: dict[str, bytes]  # the backbone's tokenizer and generation files, by name
    codec: str | None = None  # checkpoint that contains its SNAC


class OmniTask(GradientTask):
    """Training task of Mini-Omni."""

    unit = "turns"

    def __init__(self, config: OmniConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.config = config
        self.units_per_step = float(config.batch)
        self.model = _open(config)
        where = f"'backbone' {config.backbone}" if config.init_from is None else f"'init_from' {config.init_from}"
        self._tokenizer = TextTokenizer(self.model.files, where)  # raises if the files are damaged
        weights, rows = config.loss.stream_weights, self.model.config.vocabulary
        if len(weights) not in (0, rows.streams):
            raise ConfigError(f"loss.stream_weights has {len(weights)} weights, there are {rows.streams} audio streams")
        self._lora = LoRA(config.lora.rank, config.lora.scaling) if config.lora else None
        self._omni = MiniOmni(self.model.config, self._lora, config.remat, apart=True)
        drawn = (config.data, config.valid) if config.valid else (config.data,)
        tasks = {task for data in drawn for task in data.shares.tasks()}
        self._listens, self._speaks = any(t.listens for t in tasks), any(t.speaks for t in tasks)
        self._encoder = WhisperEncoder(self.model.encoder)

    def init_params(self, key: PRNGKeyArray) -> Tree:
        keys, vocabulary = jax.random.split(key), self.model.config.vocabulary
        tokens = jnp.zeros((1, vocabulary.streams + 1, 1), jnp.int32)
        params: Tree = dict(MiniOmni(self.model.config, self._lora).init(keys[0], tokens)["params"])
        mel = jnp.zeros((1, self.model.encoder.n_mels, 2))
        return cut_rows(params | {"whisper": self._encoder.init(keys[1], mel)["params"]}, vocabulary)

    def frozen(self, params: Tree) -> Collection[str]:
        stays = frozen_paths(params, self.config.freeze)
        if self.config.lora is None:
            return stays
        backbone = (f"backbone/{path}" for path in flatten(params["backbone"]))
        return stays | {path for path in backbone if not _BEYOND_LORA.match(path)}

    def start(self, key: PRNGKeyArray) -> Tree:
        """Return the parameters of the export, or those of the text decoder with randomly initialised speech parts."""
        c = self.config
        if c.init_from is not None:
            held = jomni.load(c.init_from, components=("omni", "whisper")).params
            return cut_rows(held["omni"] | {"whisper": held["whisper"]}, self.model.config.vocabulary)
        assert c.backbone is not None
        decoder = jomni.load(c.backbone, components=("decoder",)).params["decoder"]
        similar = turn_marks(self._tokenizer, self.model.config.vocabulary)
        drawn = jax.random.fold_in(key, 1)  # independent of the speech encoder that `init_params` draws
        params = add_speech_parts(decoder, self.model.config, drawn, similar)
        if c.encoder is not None:
            params["whisper"] = jomni.load(c.encoder, components=("whisper",)).params["whisper"]
        return cut_rows(params, self.model.config.vocabulary)

    def counts(self, batch: Batch) -> Float[Array, "A+1"]:
        return omni_counts(batch["targets"])

    def loss(
        self, params: Tree, batch: Batch, counts: Float[Array, "A+1"], key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        tokens, features, is_speech = batch["tokens"], None, None
        if self._listens:
            encoded = self.encode_speech(params, batch["pcm"])
            features, is_speech = place_features(encoded, batch["frames"], tokens.shape[2])
        omni = {name: part for name, part in join_rows(params).items() if name != "whisper"}
        omni = set_apart(omni, self.model.config)  # each head then multiplies with its own rows only
        logits: Any = self._omni.apply({"params": omni}, tokens, features, is_speech, self._speaks, method=_logits)
        text, audio = logits
        return omni_loss(self.config.loss, text, audio, batch["targets"], counts)

    def encode_speech(self, params: Tree, pcm: Float[Array, "B S"]) -> Float[Array, "B F W"]:
        """Return the speech encoder's features of questions at 16 kHz."""
        mel = log_mel(pcm, self.model.encoder.n_mels, pcm.shape[1])
        return self._encoder.apply({"params": params["whisper"]}, mel)  # type: ignore[return-value]

    def dataset(self, seed: int) -> Any:
        return self._batches(self.config.data, seed)

    def valid_dataset(self) -> Any:
        return None if self.config.valid is None else self._batches(self.config.valid, 0)

    def _batches(self, data: OmniData, seed: int) -> Any:
        model = self.model
        return data.dataset(model.config, model.encoder, model.files["tokenizer.json"], self.config.batch, seed)

    def export(self, state: GradientState, folder: Path) -> None:
        model, params = self.model, join_rows(self.exported(state))
        if self.config.lora is not None:
            params = fuse(params, self.config.lora.scaling)
        parts, snac = {"whisper": params.pop("whisper"), "omni": params}, None
        if model.codec is not None:
            codec = jomni.load(model.codec, components=("snac",))
            parts, snac = parts | codec.params, codec.configs["snac"]
        configs = {"omni": model.config, "whisper": model.encoder, "snac": snac}
        made = Checkpoint(
            "mini_omni", {name: config for name, config in configs.items() if config is not None}, parts,
            model_type="mini-omni", files=model.files,
        )  # fmt: skip
        jomni.save(made, folder, "orbax", overwrite=True)  # the litgpt layout does not support every backbone


def cut_rows(params: Mapping[str, Any], vocabulary: Vocabulary) -> Tree:
    """Return the parameters with each token table split into the text decoder's rows and the added rows."""
    leaves = flatten(params)
    for path in _TABLES:
        if path in leaves:
            table = leaves.pop(path)
            leaves |= {f"{path}/text": table[: vocabulary.text_size], f"{path}/new": table[vocabulary.text_size :]}
    return unflatten(leaves)


def join_rows(params: Mapping[str, Any]) -> Tree:
    """Return the parameters with the tables joined that `cut_rows` split."""
    leaves = flatten(params)
    for path in _TABLES:
        if f"{path}/text" in leaves:
            leaves[path] = jnp.concatenate([leaves.pop(f"{path}/text"), leaves.pop(f"{path}/new")])
    return unflatten(leaves)


def _open(config: OmniConfig) -> OmniModel:
    """Return the model of an export, or the model made from a text decoder."""
    model = _read_model(config)
    if config.codec is None:
        return model
    codec = detect(config.codec, components=("snac",)).configs.get("snac")
    if codec is None:
        raise ConfigError(f"'codec' {config.codec}: holds no SNAC")
    check_neighbours(model.config, None, codec, f"'codec' {config.codec}")
    return dataclasses.replace(model, codec=config.codec)


def _logits(
    model: MiniOmni,
    tokens: Int[Array, "B A+1 T"],
    features: Float[Array, "B T W"] | None,
    is_speech: Bool[Array, "B T"] | None,
    speaks: bool,
) -> tuple[Float[Array, "B T V"], Float[Array, "B T A U"] | None]:
    """Return the logits of the text and, if `speaks`, of the audio."""
    x, _ = model.listen(tokens, features, is_speech)
    return model.text_logits(x), model.audio_logits(model.speak(x)[0]) if speaks else None


def turn_marks(tokenizer: TextTokenizer, vocabulary: Vocabulary) -> dict[int, list[int]]:
    """Return the tokens of the text model's chat template that correspond to Mini-Omni's marks of question and answer.

    Returns:
      For the special tokens input_text, answer_text and end_of_text: the template's tokens at that position. Marks
      without such tokens are left out. Empty if the model has no template.

    Raises:
      PromptError, WeightsError: the template is damaged, or rejects a question.
    """
    if tokenizer.template is None:
        return {}
    end, asked = tokenizer.token(tokenizer.special.get("eos_token", "")), "question"
    before, _, after = tokenizer.render([{"role": "user", "content": asked}]).rpartition(asked)
    asks, answers = (tokenizer.encode(part, special=False) for part in (before, after))
    if end in asks:  # the end of a system prompt
        asks = asks[len(asks) - asks[::-1].index(end) :]
    if end in answers:  # the end of the question
        answers = answers[answers.index(end) + 1 :]
    v = vocabulary
    marks = {v.input_text: asks, v.answer_text: answers, v.end_of_text: [] if end is None else [end]}
    return {mark: like for mark, like in marks.items() if like}


def _read_model(config: OmniConfig) -> OmniModel:
    if config.init_from is not None:
        held = detect(config.init_from)
        configs = held.configs
        if not {"omni", "whisper"} <= configs.keys() or "tokenizer.json" not in held.files:
            raise ConfigError(
                f"'init_from' {config.init_from}: is neither an export of this training nor a Mini-Omni with its "
                "Whisper and tokenizer.json"
            )
        codec = config.init_from if "snac" in configs else None
        return OmniModel(configs["omni"], configs["whisper"], held.files, codec)
    assert config.backbone is not None
    opened, encoder = detect(config.backbone, components=("decoder",)), config.encoder_model
    if "decoder" not in opened.configs or "tokenizer.json" not in opened.files:
        raise ConfigError(f"'backbone' {config.backbone}: is not a text decoder with a tokenizer.json beside it")
    if config.encoder is not None:
        encoder = detect(config.encoder, components=("whisper",)).configs.get("whisper")
    if encoder is None:
        raise ConfigError(f"'encoder' {config.encoder}: is not a Whisper")
    v = config.voice
    vocabulary = Vocabulary(opened.configs["decoder"].vocab_size, v.text_special, v.audio_size, v.audio_special)
    decoder = dataclasses.replace(opened.configs["decoder"], vocab_size=vocabulary.size)
    made = MiniOmniConfig(decoder, vocabulary, v.adapter, encoder.n_audio_state, v.post_adapter_layers, v.merge)
    return OmniModel(made, encoder, opened.files)
