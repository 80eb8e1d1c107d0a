"""Runs jomni as `tools.goldens.kyutai` runs the original: same inputs, same numpy outputs.

T steps or frames, B slots, K codebooks, S samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jomni
from jomni.generation.controls import UNFORCED
from jomni.models.mimi.model import Mimi, decode_step, encode_step
from jomni.models.moshi import MoshiConfig, MoshiLM
from jomni.models.moshi.conditioning import prepare_conditions
from jomni.models.moshi.generate import Generator, Guidance
from tools.goldens.kyutai_runs import Inputs, Run

Params = Any
Rows = Sequence[dict[str, Any]] | None  # conditions, one dictionary per slot


@dataclasses.dataclass
class Streamed:
    """See `tools.goldens.kyutai.Streamed`."""

    tokens: np.ndarray
    text_logits: np.ndarray
    heads: np.ndarray | None


def load_mimi(folder: Path, num_codebooks: int) -> tuple[Mimi, Params]:
    checkpoint = jomni.load(folder / "mimi.safetensors")
    assert "mimi" in checkpoint.configs
    return Mimi(checkpoint.configs["mimi"], num_codebooks), checkpoint.params["mimi"]


def load_lm(folder: Path, fuse_lora: bool = False) -> tuple[MoshiLM, Params]:
    checkpoint = jomni.load(folder, fuse_lora=fuse_lora)
    assert "lm" in checkpoint.configs
    return MoshiLM(checkpoint.configs["lm"]), checkpoint.params["lm"]


def encode_stream(
    mimi: Mimi, params: Params, pcm: np.ndarray, *, block: int = 1, ring: str = "exact",
    active: np.ndarray | None = None, reset: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """pcm [B, C, S] -> codes [B, K, T], `block` frames a call; active, reset: bool [calls, B]."""
    size = mimi.config.frame_size * block
    state, out = mimi.init_encode_state(len(pcm), block, ring), []
    for i in range(pcm.shape[-1] // size):
        state = state if reset is None else jomni.nn.reset(state, reset[i])
        mask = np.ones(len(pcm), bool) if active is None else active[i]  # always given: one compilation
        state, codes = encode_step(mimi, params, state, pcm[..., i * size : (i + 1) * size], mask)
        out.append(np.asarray(codes))
    return np.concatenate(out, -1)


def decode_stream(
    mimi: Mimi, params: Params, codes: np.ndarray, *, block: int = 1, ring: str = "exact",
    active: np.ndarray | None = None, reset: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """codes [B, K, T] -> pcm [B, C, S], in the manner of `encode_stream`."""
    state, out = mimi.init_decode_state(len(codes), block, ring), []
    for i in range(codes.shape[-1] // block):
        state = state if reset is None else jomni.nn.reset(state, reset[i])
        mask = np.ones(len(codes), bool) if active is None else active[i]
        state, pcm = decode_step(mimi, params, state, codes[..., i * block : (i + 1) * block], mask)
        out.append(np.asarray(pcm))
    return np.concatenate(out, -1)


def condition_values(config: MoshiConfig, rows: Rows) -> dict[str, Any] | None:
    """Conditions by name, from one dictionary per slot; tensors padded to the longest."""
    if rows is None:
        return None
    values: dict[str, Any] = {}
    for c in config.conditioners:
        column = [row[c.name] for row in rows]
        if c.type == "lut":
            values[c.name] = column
            continue
        length = max(1 if x is None else len(x) for x in column)
        tensor, mask = np.zeros((len(rows), length, c.dim), np.float32), np.zeros((len(rows), length), bool)
        for slot, x in enumerate(column):
            if x is not None:
                tensor[slot, : len(x)], mask[slot, : len(x)] = x, True
        values[c.name] = (tensor, mask)
    return values


def dropped(values: dict[str, Any]) -> dict[str, Any]:
    """The same conditions, absent."""
    return {
        name: [None] * len(value) if isinstance(value, list) else (value[0] * 0, value[1] & False)
        for name, value in values.items()
    }


def train(lm: MoshiLM, params: Params, codes: np.ndarray, rows: Rows) -> dict[str, np.ndarray]:
    """See `tools.goldens.kyutai.train`."""
    values = condition_values(lm.config, rows)
    prepared = None if values is None else prepare_conditions(lm.config.conditioners, values, len(codes))
    out = lm.apply({"params": params}, codes, prepared)  # not compiled: it runs but once
    return {k: np.asarray(v) for k, v in out._asdict().items() if v is not None}


def stream(lm: MoshiLM, params: Params, run: Run, inputs: Inputs) -> Streamed:
    """See `tools.goldens.kyutai.stream`."""
    guidance = None if run.guidance == 1 else Guidance(run.masked_until is not None, run.no_text)
    generator = Generator(lm, guidance=guidance)
    slots = inputs.user.shape[1]
    values = condition_values(lm.config, inputs.conditions)
    null = condition_values(lm.config, inputs.null) if isinstance(inputs.null, list) else inputs.null
    if null == "dropped" and values is not None:
        null = dropped(values)
    state = generator.init_state(slots, params=params, conditions=values, unguided=null)
    masked = list(run.masked_until or [0] * slots)
    controls = generator.controls(
        slots, temperature=0.0, text_temperature=0.0, guidance=run.guidance, masked_until=masked
    )
    tokens, logits, heads = [], [], []
    for t in range(run.steps):
        controls = controls._replace(active=inputs.active[t], reset=inputs.reset[t])
        if inputs.audio is not None:
            controls = controls._replace(force_audio=inputs.audio[t])
        if inputs.text is not None:
            controls = controls._replace(
                force_text=np.where(inputs.text[t] < 0, UNFORCED, inputs.text[t]).astype(np.int32)
            )
        state, out = generator.step(params, state, inputs.user[t], controls)
        tokens.append(np.concatenate([np.asarray(out.text)[:, None], np.asarray(out.codes)], 1))
        logits.append(np.asarray(out.text_logits))
        heads.append(np.stack([np.asarray(h) for h in out.heads], 1) if out.heads else None)
    return Streamed(np.stack(tokens), np.stack(logits), None if heads[0] is None else np.stack(heads))  # type: ignore[arg-type]
