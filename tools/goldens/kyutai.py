"""Run the original (package moshi 0.2.13, PyTorch on CPU, float32) on tiny checkpoints in the published layout.

`layout` writes files as Kyutai publishes them, and the original reads them with its own loaders. Functions take and
return numpy arrays; B slots, T frames, K codebooks, S samples.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_TORCH_COMPILE", "1")

import moshi.models.lm as lm_module
import numpy as np
import torch
from moshi.conditioners.base import ConditionAttributes, TensorCondition, dropout_all_conditions
from moshi.models import LMGen, LMModel, MimiModel, loaders
from moshi.models.lm_utils import _delay_sequence, _undelay_sequence
from moshi.modules.transformer import RMSNorm
from moshi.quantization.core_vq import EuclideanCodebook
from moshi.run_inference import InferenceState

from tools.goldens.kyutai_runs import Inputs, Run

Config = dict[str, Any]
Manifest = dict[str, tuple[int, ...]]
Conditions = Sequence[Mapping[str, str | np.ndarray | None]]  # one mapping per slot: text, tensor [T, D] or nothing

_PROJECTION = re.compile(r"(.*)\.(in|out)_projs\.(\d+)\.(.*)")


def published(shapes: Mapping[str, tuple[int, ...]]) -> Manifest:
    """Return the published names and shapes for those of a `state_dict()`.

    The projections of all weight sets are published as one tensor, stacked on axis 0.
    """
    out: Manifest = {}
    for name, shape in shapes.items():
        name = name.replace(".frozen_W.weight", ".weight")
        match = _PROJECTION.fullmatch(name)
        if match:
            prefix, side, _, leaf = match.groups()
            name = f"{prefix}.{side}_proj" + ("_weight" if (side, leaf) == ("in", "weight") else f".{leaf}")
            if name in out:
                shape = (out[name][0] + shape[0], *shape[1:])
        out[name] = tuple(shape)
    return out


def mimi_manifest(config: Config) -> Manifest:
    """Return the published names and shapes of a Mimi."""
    return published(_shapes(loaders.get_mimi(None, copy.deepcopy(config), num_codebooks=config["quantizer"]["n_q"])))


def lm_manifest(config: Config) -> tuple[Manifest, Manifest]:
    """Return the published names and shapes of a language model's weights and of its LoRA file (empty without)."""
    config = {k: v for k, v in copy.deepcopy(config).items() if k != "model_type"}
    names = published(_shapes(loaders.get_moshi_lm(None, config, dtype=torch.float32)))
    adapters = {k: v for k, v in names.items() if "lora_" in k}
    return {k: v for k, v in names.items() if k not in adapters}, adapters


def _shapes(model: torch.nn.Module) -> Manifest:
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def load_mimi(folder: Path, num_codebooks: int) -> MimiModel:
    """Return the original's Mimi from a folder written by `layout.write_mimi`."""
    config = json.loads((folder / "mimi.json").read_text())
    return loaders.get_mimi(folder / "mimi.safetensors", config, num_codebooks=num_codebooks)


def load_lm(folder: Path, fuse_lora: bool = False) -> LMModel:
    """Return the original's language model from a folder written by `layout.write_lm`."""
    config = json.loads((folder / "config.json").read_text())
    weights, lora = folder / config.pop("moshi_name"), config.pop("lora_name", None)
    kind = config.pop("model_type", "moshi")
    info = loaders.CheckpointInfo(weights, Path(), Path(), config, model_type=kind, lora_weights=lora and folder / lora)
    return info.get_moshi(dtype=torch.float32, fuse_lora=fuse_lora)


# Mimi --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def encode(model: MimiModel, pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode whole recordings: pcm [B, C, S] -> codes int32 [B, K, T] and the distances of `_gaps` [B, K, T]."""
    with _gaps() as gaps:
        codes = model.encode(torch.from_numpy(pcm)).numpy()
    return codes.astype(np.int32), _stack(gaps, codes.shape)


@torch.no_grad()
def decode(model: MimiModel, codes: np.ndarray) -> np.ndarray:
    """Decode whole recordings: codes [B, K, T] -> pcm float32 [B, C, S]."""
    return model.decode(torch.from_numpy(codes).long()).numpy()


@torch.no_grad()
def encode_stream(
    model: MimiModel, pcm: np.ndarray, *, block: int = 1, active: np.ndarray | None = None,
    reset: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Encode in a stream, `block` frames per call.

    Args:
      model: the original's Mimi.
      pcm: [B, C, S].
      block: frames per call.
      active: slots that are active in each call, bool [calls, B].
      reset: slots that are reset before each call, bool [calls, B].

    Returns:
      As `encode`.
    """
    size = model.frame_size * block
    codes, distances = [], []
    with model.streaming(len(pcm)):
        for i in range(pcm.shape[-1] // size):
            _control(model, i, active, reset)
            with _gaps() as gaps:
                codes.append(model.encode(torch.from_numpy(pcm[..., i * size : (i + 1) * size])).numpy())
            distances.append(_stack(gaps, codes[-1].shape))
    return np.concatenate(codes, -1).astype(np.int32), np.concatenate(distances, -1)


@torch.no_grad()
def decode_stream(
    model: MimiModel, codes: np.ndarray, *, block: int = 1, active: np.ndarray | None = None,
    reset: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Decode in a stream; see `decode` and `encode_stream`."""
    out = []
    with model.streaming(len(codes)):
        for i in range(codes.shape[-1] // block):
            _control(model, i, active, reset)
            out.append(model.decode(torch.from_numpy(codes[..., i * block : (i + 1) * block]).long()).numpy())
    return np.concatenate(out, -1)


def _control(model: MimiModel | LMGen, call: int, active: np.ndarray | None, reset: np.ndarray | None) -> None:
    if reset is not None and reset[call].any():
        model.reset_streaming(torch.from_numpy(reset[call]))
    if active is not None:
        model.set_exec_mask(torch.from_numpy(active[call]))


@contextmanager
def _gaps() -> Iterator[list[np.ndarray]]:
    """Record (d2 - d1) / d1 in float64 for each quantised vector, with d1 and d2 its two smallest distances."""
    gaps: list[np.ndarray] = []
    quantize = EuclideanCodebook._quantize

    def recording(self: EuclideanCodebook, x: torch.Tensor) -> torch.Tensor:
        two = torch.cdist(x.double(), self.embedding.double()).topk(2, largest=False).values
        gaps.append(((two[:, 1] - two[:, 0]) / two[:, 0]).numpy())
        return quantize(self, x)

    EuclideanCodebook._quantize = recording  # type: ignore[method-assign]
    try:
        yield gaps
    finally:
        EuclideanCodebook._quantize = quantize  # type: ignore[method-assign]


def _stack(gaps: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    batch, codebooks, frames = shape
    return np.stack(gaps, 0).reshape(codebooks, batch, frames).transpose(1, 0, 2)


# LM ----------------------------------------------------------------------------------------------------------------


def conditions(model: LMModel, rows: Conditions | None, null: Conditions | str | None = None) -> Any:
    """Return the original's condition tensors of `rows`, followed by those of `null` for guidance.

    "dropped": no conditions.
    """
    if rows is None:
        return None
    attributes = [_attributes(row, model) for row in rows]
    if null == "dropped":
        attributes += dropout_all_conditions(attributes)
    elif null is not None:
        attributes += [_attributes(row, model) for row in null]  # type: ignore[arg-type]
    return model.condition_provider.prepare_and_provide(attributes)


def _attributes(row: Mapping[str, str | np.ndarray | None], model: LMModel) -> ConditionAttributes:
    texts = {k: row[k] for k in model.condition_provider.text_conditions}
    tensors = {}
    for name in model.condition_provider.tensor_conditions:
        value = row[name]
        if value is None:
            empty = torch.zeros(1, 1, model.condition_provider.conditioners[name].dim)
            tensors[name] = TensorCondition(empty, torch.zeros(1, 1, dtype=torch.bool))
        else:
            tensors[name] = TensorCondition.from_tensor(torch.from_numpy(value)[None])
    return ConditionAttributes(texts, tensors)  # type: ignore[arg-type]


@torch.no_grad()
def train(model: LMModel, codes: np.ndarray, rows: Conditions | None = None) -> dict[str, np.ndarray]:
    """Return logits, mask, text_logits and text_mask of codes [B, 1 + n_q, T]; logits are NaN where not predicted."""
    tensors = conditions(model, rows)
    tokens = torch.from_numpy(codes).long()
    if model.dep_q:
        with _any_rank(model):
            out = model(tokens, tensors)
        return {k: v.numpy() for k, v in dataclasses.asdict(out).items()}
    # The original's `forward` requires a depth transformer; this is its code for text.
    initial = model._get_initial_token().expand(len(tokens), -1, -1)
    delayed = torch.cat([initial, _delay_sequence(model.delays, tokens, initial)], dim=2)
    _, logits = model.forward_text(delayed[:, :, :-1])
    logits, mask = _undelay_sequence(model.delays[:1], logits, fill_value=float("NaN"))
    return {"text_logits": logits.numpy(), "text_mask": (mask & (tokens[:, :1] != -1)).numpy()}


@contextmanager
def _any_rank(model: LMModel) -> Iterator[None]:
    """Add an axis to inputs of `depformer_norms`: the original passes rank 2, but its RMSNorm accepts rank 3 only."""
    hooks = []
    for norm in model.depformer_norms:
        if isinstance(norm, RMSNorm):
            hooks.append(norm.register_forward_pre_hook(lambda _, x: (x[0][None],)))
            hooks.append(norm.register_forward_hook(lambda _, x, y: y[0]))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclasses.dataclass
class Streamed:
    """Results of a greedy streaming run."""

    tokens: np.ndarray  # int32 [T, B, 1 + dep_q], -2 before the first token and while the slot is paused
    text_logits: np.ndarray  # float32 [T, B, text_card_out], guided
    heads: np.ndarray | None  # probabilities of the extra heads, float32 [T, B, heads, classes]
    margin: float  # smallest distance of the two largest logits of a token, in active slots


@torch.no_grad()
def stream(model: LMModel, run: Run, inputs: Inputs) -> Streamed:
    """Run `LMGen` greedily. Resets and pauses of slots need `support_out_of_sync`."""
    logits: list[np.ndarray] = []
    step = 0

    def on_text(chosen: torch.Tensor) -> None:
        if inputs.text is not None:
            forced = torch.from_numpy(inputs.text[step]).long()
            chosen[:] = torch.where(forced >= 0, forced, chosen)

    generator = LMGen(
        model,
        use_sampling=False,
        cfg_coef=run.guidance,
        cfg_is_masked_until=run.masked_until and list(run.masked_until),
        cfg_is_no_text=run.no_text,
        condition_tensors=conditions(model, inputs.conditions, inputs.null),
        support_out_of_sync=True,
        on_text_hook=on_text,
        on_text_logits_hook=lambda x: logits.append(x[:, 0, 0].float().numpy().copy()),
    )
    tokens, heads, margin = [], [], np.inf
    slots = inputs.user.shape[1]
    with generator.streaming(slots):
        for step in range(run.steps):
            _control(generator, step, inputs.active, inputs.reset)
            audio = None if inputs.audio is None else torch.from_numpy(inputs.audio[step]).long()[..., None]
            with _margins() as margins:
                user = torch.from_numpy(inputs.user[step]).long()[..., None]
                out, classes = generator.step_with_extra_heads(user, audio)
            tokens.append(out[..., 0].numpy().copy())
            heads.append(np.stack([c[:slots, 0].numpy() for c in classes], 1) if classes else np.zeros(0))
            margin = min([margin, *(m[inputs.active[step]].min() for m in margins)])
    return Streamed(
        np.stack(tokens).astype(np.int32), np.stack(logits), np.stack(heads) if heads[0].size else None, float(margin)
    )


@contextmanager
def _margins() -> Iterator[list[np.ndarray]]:
    """Record the distance of the two largest logits of each sampled token, as arrays [B]."""
    margins: list[np.ndarray] = []
    choose = lm_module.sample_token

    def recording(logits: torch.Tensor, *args: Any) -> torch.Tensor:
        two = logits.topk(2).values
        margins.append((two[..., 0] - two[..., 1]).flatten().numpy())
        return choose(logits, *args)

    lm_module.sample_token = recording
    try:
        yield margins
    finally:
        lm_module.sample_token = choose


class _NoTokenizer:
    """The methods of a text tokenizer that the original's runner calls."""

    def eos_id(self) -> int:
        return -1

    def id_to_piece(self, token: int) -> str:
        return f" {token}"


@torch.no_grad()
def converse(mimi: MimiModel, lm: LMModel, pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run the original's offline runner: pcm [B, 1, S] -> text int32 [B, N] and pcm float32 [B, 1, N * frame_size].

    Decoding is greedy. Both models stay in streaming mode.
    """
    info = types.SimpleNamespace(model_type="moshi", stt_config={})
    runner = InferenceState(info, mimi, _NoTokenizer(), lm, len(pcm), 1.0, "cpu", use_sampling=False)
    rows = runner.run(torch.from_numpy(pcm))
    return (
        np.stack([text.reshape(-1).numpy() for text, _ in rows]).astype(np.int32),
        np.stack([voice.numpy() for _, voice in rows]),
    )
