"""Training of Moshi's language model: from random weights or a checkpoint, all parameters or low-rank adapters.

Axes: B rows, K streams (text, agent's codebooks, user's codebooks), T frames, S frames of the depth
transformer's loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import sentencepiece
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import jomni
from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.detect import detect
from jomni.errors import ConfigError
from jomni.models.moshi import MoshiLM
from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.model import ZERO
from jomni.tensors.weight_map import flatten
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import Tree, join
from jomni.train.gradient_task import GradientConfig, GradientState, GradientTask
from jomni.train.lora import LoRAConfig, fuse, save_adapters
from jomni.train.task import Batch, Metrics
from jomni.train.tasks.moshi_data import LMData, check_batch
from jomni.train.tasks.moshi_loss import Counts, LMLossConfig, counts, lm_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class LMConfig(GradientConfig):
    """A language model, its data and its training options. Needs `model` (random weights) or `init_from`."""

    data: LMData  # training data
    valid: LMData | None = mutable_on_resume(None)  # held-out data
    model: MoshiConfig | None = None  # configuration of a model with random weights
    init_from: str | None = None  # checkpoint to start from: a folder or a hub id
    shrink_and_perturb: float = 1.0  # share of init_from's weights in the temporal transformer; the rest is random
    lora: LoRAConfig | None = None  # train low-rank adapters only; none: all parameters
    loss: LMLossConfig = dataclasses.field(default_factory=LMLossConfig)
    depth_share: float = 1.0  # share of the frames, drawn at each step, on which the depth transformer is trained
    depth_moving: float = 1.0  # weight in this draw of frames in which the agent's semantic code changes; others have 1
    monologue: bool = True  # whether there is text; False: replace all text by padding
    user_noise: float = 0.0  # share of the user's input frames that are replaced by random codes
    agent_noise: float = 0.0  # share of the agent's input frames that are replaced by other frames of the conversation
    codec: str | None = mutable_on_resume(None)  # checkpoint of the codec to export; none: that of init_from
    tokenizer: str | None = None  # sentencepiece file to export with the model; none: that of init_from
    temperature: float | None = mutable_on_resume(None)  # exported default for audio; none: that of init_from
    text_temperature: float | None = mutable_on_resume(None)  # exported default for text; none: that of init_from
    export: Literal["whole", "adapters", "fused"] = mutable_on_resume("whole")  # weights that are written, with LoRA

    def __post_init__(self) -> None:
        if (self.model is None) == (self.init_from is None):
            raise ConfigError("give either 'model' (random weights) or 'init_from' (a checkpoint), and not both")
        super().__post_init__()
        for name in ("user_noise", "agent_noise", "shrink_and_perturb"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"'{name}' must be from 0 to 1, got {getattr(self, name)}")
        if not 0 < self.depth_share <= 1:
            raise ConfigError(f"'depth_share' must be above 0 and at most 1, got {self.depth_share}")
        if not self.depth_moving > 0:
            raise ConfigError(f"'depth_moving' must be above 0, got {self.depth_moving}")
        if not self.monologue and not self.loss.text_weight:
            raise ConfigError(
                "without a 'monologue' the model has to learn that its text is padding: set 'loss.text_weight' above "
                "0. Otherwise an untrained head would generate the text that the model takes as input"
            )
        if self.shrink_and_perturb < 1 and (self.init_from is None or self.lora is not None):
            raise ConfigError(
                "'shrink_and_perturb' below 1 applies when all of 'init_from' is trained: give that, and no 'lora'"
            )
        if self.lora is None and self.export != "whole":
            raise ConfigError(f"'export' = {self.export!r} needs LoRA; without it only 'whole' is possible")
        if self.lora is not None and self.init_from is None:
            raise ConfigError("'lora' adapts a trained model: give 'init_from'")

    def build(self, steps: int) -> LMTask:
        """Return the task. Reads the configuration and the tokenizer of the checkpoint, not its weights."""
        return LMTask(self, steps)


class _Rows(NamedTuple):
    """Inputs and targets of the loss."""

    delayed: Int[Array, "B K T"]
    past: Int[Array, "B K T"] | None  # input of the temporal transformer; None: `delayed`
    heard: Int[Array, "B T"] | None  # text tokens of the user's words
    frames: Int[Array, "B S"] | None  # frames on which the depth transformer is trained; None: all
    read: Bool[Array, "B"] | None  # rows whose text has no loss


class LMTask(GradientTask):
    """Training task of the language model."""

    unit = "frames"

    def __init__(self, config: LMConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.config = config
        self._opened: CheckpointSource | None = None
        if config.init_from is not None:
            self._opened = detect(config.init_from)
            if "lm" not in self._opened.configs:
                raise ConfigError(f"'init_from' {config.init_from}: contains no language model")
            model = dataclasses.replace(self._opened.configs["lm"], lora_rank=0)
        else:
            assert config.model is not None
            model = config.model
        if model.conditioners:
            raise ConfigError(f"training with conditions is not supported: {[c.name for c in model.conditioners]}")
        if config.lora is not None:
            model = dataclasses.replace(model, lora_rank=config.lora.rank, lora_scaling=config.lora.scaling)
        if config.loss.heard_weight and not model.has_user_asr_head:
            raise ConfigError(
                f"loss.heard_weight trains an extra head that predicts the user's words: set the model's "
                f"extra_heads_num_heads = 1 and extra_heads_dim = text_card = {model.text_card}"
            )
        self.model = model
        self.units_per_step = float(config.batch * config.data.frames)
        self._lm = MoshiLM(model, config.remat)
        self._tokenizer = _tokenizer(config, self._opened, model)
        self._codec = config.codec or (config.init_from if self._opened and "mimi" in self._opened.configs else None)
        if config.codec is not None:
            _check_codec(config.codec, model)

    def init_params(self, key: PRNGKeyArray) -> Tree:
        params: Any = self._lm.init(key, jnp.zeros((1, self.model.n_q + 1, 2), jnp.int32))["params"]
        return params

    def frozen(self, params: Tree) -> Collection[str]:
        lora = self.config.lora
        return () if lora is None else {path for path in flatten(params) if not lora.trains(path)}

    def warm_start(self, state: GradientState, key: PRNGKeyArray) -> GradientState:
        """Return the state with the weights of `init_from`.

        With `shrink_and_perturb`, the layers start between these weights and random ones (arXiv:1910.08475). They learn
        new data better than weights that are fitted to the first data.
        """
        if self._opened is None:
            return state
        kept = self.config.shrink_and_perturb
        held = flatten(join(state.params, state.frozen))
        old = {path: (leaf.dtype, leaf.sharding) for path, leaf in held.items()}
        adapters = {path: leaf for path, leaf in held.items() if "/lora_" in path}
        anew = {path: leaf for path, leaf in held.items() if kept < 1 and path.startswith("transformer/")}
        for path in held.keys() - adapters.keys() - anew.keys():
            held[path].delete()  # to hold one model in memory, not two
        del held
        found = jomni.load(
            self._opened.source, fuse_lora=True, components=("lm",),
            sharding=lambda path, shape: old[path.removeprefix("lm/")][1],
        )  # fmt: skip
        leaves = {path: leaf.astype(old[path][0]) for path, leaf in flatten(found.params["lm"]).items()} | adapters
        leaves |= {path: kept * leaves[path] + (1 - kept) * leaf for path, leaf in anew.items()}
        return self.with_parameters(state, leaves)

    def rows(self, batch: Batch, key: PRNGKeyArray | None) -> _Rows:
        c, codes = self.config, self._codes(batch)
        delayed: Any = self._lm.apply({}, codes, method=MoshiLM.delay)
        past: Any = None
        frames = None
        if "own" in batch:
            past = codes.at[:, 1 : 1 + self.model.dep_q].set(batch["own"])
        if key is not None:
            noise, key = jax.random.split(key)
            if c.user_noise or c.agent_noise:
                past = add_noise(codes if past is None else past, self.model, c.user_noise, c.agent_noise, noise)
            if c.depth_share < 1:
                frames = draw_frames(delayed, c.depth_share, key, c.depth_moving)
        if past is not None:
            past = self._lm.apply({}, past, method=MoshiLM.delay)
        heard = batch["heard"] if c.loss.heard_weight else None
        return _Rows(delayed, past, heard, frames, batch.get("read"))

    def counts(self, rows: _Rows) -> Counts:
        return counts(self.model, self.config.loss, rows.delayed, rows.heard, rows.frames, rows.read)

    def loss(self, params: Tree, rows: _Rows, counts: Counts, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        delayed, past, heard, frames, read = rows
        logits: Any = self._lm.apply({"params": params}, delayed, None, frames, past, method=MoshiLM.delayed_logits)
        return lm_loss(self.model, self.config.loss, logits, delayed, counts, heard, frames, read)

    def _codes(self, batch: Batch) -> Int[Array, "B K T"]:
        codes = batch["codes"]
        if self.config.monologue:
            return codes
        text = codes[:, 0]
        return codes.at[:, 0].set(jnp.where(text == ZERO, text, self.model.existing_text_padding_id))

    def dataset(self, seed: int) -> Any:
        return self._batches(self.config.data, seed)

    def valid_dataset(self) -> Any:
        return None if self.config.valid is None else self._batches(self.config.valid, 0)

    def _batches(self, data: LMData, seed: int) -> Any:
        dataset = data.dataset(self.model, self._tokenizer, self.config.batch, seed)
        check_batch(next(iter(dataset)), self.model, self.config.loss.heard_weight > 0)
        return dataset

    def export(self, state: GradientState, folder: Path) -> None:
        c, lora = self.config, self.config.lora
        params, config = self.exported(state), self.model
        if c.export == "fused":
            params, config = fuse(params, config.lora_scaling), dataclasses.replace(config, lora_rank=0)
        opened, configs, weights = self._opened, {"lm": config}, {"lm": params}
        if self._codec is not None and c.export != "adapters":
            codec = jomni.load(self._codec, components=("mimi",))
            configs, weights = configs | codec.configs, weights | codec.params
        carried: dict[str, Any] = {}
        if opened is not None:
            carried = {k: getattr(opened, k) for k in ("generation", "model_type", "settings")}
        wanted = {"temp": c.temperature, "temp_text": c.text_temperature}
        carried["generation"] = carried.get("generation", {}) | {k: v for k, v in wanted.items() if v is not None}
        checkpoint = Checkpoint("moshi", configs, weights, tokenizer=self._tokenizer, **carried)
        if c.export == "adapters":
            assert lora is not None
            save_adapters(checkpoint, folder, lora)
        else:
            jomni.save(checkpoint, folder, overwrite=True)


def draw_frames(tokens: Int[Array, "B K T"], share: float, key: PRNGKeyArray, moving: float = 1.0) -> Int[Array, "B S"]:
    """Draw distinct frames for each row, in ascending order: a share of all frames, at least one.

    Drawn without replacement by the keys of Efraimidis and Spirakis, log(u) / weight.

    Args:
      tokens: text, agent codes and user codes.
      share: share of the frames.
      key: random key.
      moving: weight of frames whose first audio code differs from that of the frame before; other frames have 1.
        An agent that listens is mostly silent, and silence is learnt quickly.
    """
    rows, frames = tokens.shape[0], tokens.shape[2]
    moves = jnp.pad(tokens[:, 1, 1:] != tokens[:, 1, :-1], ((0, 0), (1, 0)))
    rank = jax.random.exponential(key, (rows, frames)) / jnp.where(moves, moving, 1.0)
    return jnp.sort(rank.argsort(-1)[:, : max(1, round(share * frames))], -1)


def add_noise(
    codes: Int[Array, "B K T"], model: MoshiConfig, user: float, agent: float, key: PRNGKeyArray
) -> Int[Array, "B K T"]:
    """Corrupt the input codes, so that the model does not rely on single frames. Its own output has errors as well.

    A frame is replaced in all its codebooks or in none. Frames without codes are not changed.

    Args:
      codes: text, agent codes and user codes, not delayed.
      model: configuration of the model.
      user: share of the user's frames that are replaced by random codes.
      agent: share of the agent's frames that are replaced by another frame of the same row, drawn at random. Such
        codes are plausible but wrong, like the model's own errors.
      key: random key.
    """
    keys, (rows, _, frames) = jax.random.split(key, 4), codes.shape
    text, own, heard = jnp.split(codes, [1, model.dep_q + 1], 1)
    random = jax.random.randint(keys[0], heard.shape, 0, model.card)
    other = jnp.take_along_axis(own, jax.random.randint(keys[1], (rows, 1, frames), 0, frames), 2)
    heard = jnp.where(jax.random.bernoulli(keys[2], user, (rows, 1, frames)) & (heard >= 0), random, heard)
    present = (own >= 0).all(1, keepdims=True) & (other >= 0).all(1, keepdims=True)
    hit = jax.random.bernoulli(keys[3], agent, (rows, 1, frames)) & present
    return jnp.concatenate([text, jnp.where(hit, other, own), heard], 1)


def _tokenizer(config: LMConfig, opened: CheckpointSource | None, model: MoshiConfig) -> bytes | None:
    """Return the content of the text tokenizer's file, checked against the model's vocabulary."""
    if config.tokenizer is None:
        return opened.tokenizer if opened else None
    path = Path(config.tokenizer).expanduser()
    if not path.is_file():
        raise ConfigError(f"'tokenizer' {path}: there is no such file")
    content = path.read_bytes()
    try:
        entries = sentencepiece.SentencePieceProcessor(model_proto=content).vocab_size()
    except RuntimeError as error:
        raise ConfigError(f"'tokenizer' {path}: is not a sentencepiece model ({error})") from None
    if entries > model.text_card:
        raise ConfigError(f"'tokenizer' {path}: has {entries} pieces, the model's text_card is {model.text_card}")
    return content


def _check_codec(source: str, model: MoshiConfig) -> None:
    """Raise `ConfigError` if the codes of a codec do not fit the model."""
    codec = detect(source, components=("mimi",)).configs.get("mimi")
    if codec is None:
        raise ConfigError(f"'codec' {source}: holds no codec")
    if codec.num_codebooks < model.codec_codebooks or codec.quantizer.bins != model.card:
        raise ConfigError(
            f"'codec' {source}: has {codec.num_codebooks} codebooks of {codec.quantizer.bins} entries, the model needs "
            f"{model.codec_codebooks} of {model.card}"
        )
