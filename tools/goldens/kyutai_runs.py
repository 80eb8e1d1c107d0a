"""Inputs of the original and of jomni: audio, codes, conditions, streaming runs with pauses and resets (no torch)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tools.goldens import draw
from tools.goldens.kyutai_cases import LM, MIMI

# Contents of tests/parity/data/kyutai.
MIMI_SEEDS = {"base": 1, "wide_books": 4, "replicate": 0, "one_step": 11}
MIMI_FRAMES = 60
KEPT_FRAMES = (0, 30, 59)  # frames with stored samples
TRAIN_SEED, TRAIN_FRAMES, TRAIN_BATCH = 0, 8, 2
GOLDEN_TRAIN = ("moshi", "sinusoidal", "stt", "hibiki", "tts", "mixed", "mixed_too", "lora")
GOLDEN_RUNS = ("moshi", "stt", "mixed_too", "tts-null")
EVERY = 20  # distance of steps with stored text logits

SLOTS = 3
EOS = 2  # text token that Hibiki reads as padding
TIE = 1e-5  # relative distance of two centroids below which rounding may decide


def mimi_audio(case: str, seed: int, frames: int, extra: int = 0) -> np.ndarray:
    """Return test audio for three slots, float32 [B, C, frames * frame_size + extra]."""
    config = MIMI[case]
    samples = round(frames * config["sample_rate"] / config["frame_rate"]) + extra
    return draw.audio(seed, SLOTS, config["channels"], samples, config["sample_rate"])


def mimi_control(seed: int, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (active, reset), bool [T, B]: slot 0 is always active, slot 1 pauses, slot 2 pauses and is reset."""
    random = draw.stream(seed, "control")
    active = random.uniform(size=(calls, SLOTS)) < (1.0, 0.8, 0.8)
    return active, random.uniform(size=(calls, SLOTS)) < (0.0, 0.0, 0.05)


@dataclasses.dataclass(frozen=True)
class Run:
    """A greedy streaming run: slot 0 is always active, slot 1 pauses, slot 2 pauses and is reset."""

    case: str  # of LM
    seed: int  # of weights and inputs
    steps: int = 200
    guidance: float = 1.0  # classifier-free guidance coefficient
    null: str | None = None  # conditions of the unguided branch: "dropped" or "other"
    masked_until: tuple[int, ...] | None = None  # frames per slot that are hidden from the unguided branch
    no_text: bool = False  # text is hidden from the unguided branch
    replace_audio: bool = False  # force all audio tokens
    force_text: bool = False  # force some text tokens
    fuse_lora: bool = False

    @property
    def name(self) -> str:
        options = ("null", "masked_until", "no_text", "replace_audio", "force_text", "fuse_lora")
        return "-".join([self.case, *(o for o in options if getattr(self, o))])


RUNS = (
    Run("moshi", 0),
    Run("sinusoidal", 0),
    Run("stt", 0),
    Run("hibiki", 4),
    Run("tts", 2),
    Run("wide", 2),
    Run("mixed", 0),
    Run("mixed_too", 4),
    Run("one_set", 0),
    Run("lora", 0),
    Run("lora", 0, 60, fuse_lora=True),
    Run("lora", 2, 60, guidance=3.0, null="other"),
    Run("tts", 5, 60, guidance=2.0, null="dropped"),
    Run("one_set", 0, 60, guidance=2.5, masked_until=(20, 0, 7)),
    Run("one_set", 0, 60, guidance=1.7, no_text=True),
    Run("mixed_too", 0, 60, guidance=0.5, masked_until=(10, 5, 3), no_text=True),
    Run("moshi", 0, 60, replace_audio=True),
    Run("tts", 7, 60, force_text=True),
    Run("hibiki", 1, 60, force_text=True),
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Inputs of a run; T steps, B slots."""

    user: np.ndarray  # int32 [T, B, n_q - dep_q]
    active: np.ndarray  # bool [T, B]
    reset: np.ndarray  # bool [T, B]: slots reset before the step
    conditions: list[dict[str, Any]] | None  # per slot: name -> text, float32 [S, dim], or None
    null: list[dict[str, Any]] | str | None  # conditions of the unguided branch
    audio: np.ndarray | None  # forced audio tokens, int32 [T, B, dep_q]
    text: np.ndarray | None  # forced text tokens, int32 [T, B]; -1: not forced


def run_inputs(run: Run) -> Inputs:
    """Return the random inputs of a run."""
    config, steps = LM[run.case], run.steps
    random = draw.stream(run.seed, "control")
    active = random.uniform(size=(steps, SLOTS)) < (1.0, 0.8, 0.8)
    reset = random.uniform(size=(steps, SLOTS)) < (0.0, 0.0, 0.02)
    audio = text = None
    if run.replace_audio:
        audio = draw.tokens(run.seed, "replace", (steps, SLOTS, config["dep_q"]), config["card"])
    if run.force_text:
        # In a third of the steps. If a token holds two text streams, both are forced.
        first = draw.tokens(run.seed, "forced text", (steps, SLOTS), config["text_card"])
        if config.get("demux_second_text_stream"):
            second = draw.tokens(run.seed, "second text", (steps, SLOTS), config["text_card"])
            first = first + (config["text_card"] + 1) * second
        text = np.where(random.uniform(size=(steps, SLOTS)) < 0.33, first, -1).astype(np.int32)
        text = np.where(random.uniform(size=(steps, SLOTS)) < 0.1, EOS, text)
    other = condition_rows(run.case, run.seed, SLOTS, shift=1)
    user = draw.tokens(run.seed, "user", (steps, SLOTS, config["n_q"] - config["dep_q"]), config["card"])
    rows = condition_rows(run.case, run.seed, SLOTS)
    return Inputs(user, active, reset, rows, other if run.null == "other" else run.null, audio, text)


def condition_rows(case: str, seed: int, slots: int, shift: int = 0) -> list[dict[str, Any]] | None:
    """Return conditions for each slot: different texts, tensors of different lengths, none in the last slot."""
    conditioners = LM[case].get("conditioners")
    if not conditioners:
        return None
    rows: list[dict[str, Any]] = []
    for slot in range(slots):
        row: dict[str, Any] = {}
        for name, spec in conditioners.items():
            if slot == slots - 1 and not shift:
                row[name] = None
            elif spec["type"] == "lut":
                texts = spec["lut"].get("possible_values") or ("1.0", "2.5", "any text")
                row[name] = texts[(slot + shift) % len(texts)]
            else:
                shape = (3 + slot + shift, spec["tensor"]["dim"])
                row[name] = draw.stream(seed, f"{name}{slot + shift}").standard_normal(shape).astype(np.float32)
        rows.append(row)
    return rows


def train_codes(case: str, seed: int, batch: int, frames: int) -> np.ndarray:
    """Return random codes for the training form, int32 [B, 1 + n_q, T]; a tenth of them is missing (-1)."""
    config = LM[case]
    text = draw.tokens(seed, "text", (batch, 1, frames), config["text_card"])
    if config.get("demux_second_text_stream"):
        second = draw.tokens(seed, "second", (batch, 1, frames), config["text_card"] + 1)  # 0: no second text
        text = text + (config["text_card"] + 1) * second
    text = np.where(draw.stream(seed, "eos").uniform(size=text.shape) < 0.2, EOS, text)
    audio = draw.tokens(seed, "audio", (batch, config["n_q"], frames), config["card"])
    codes = np.concatenate([text, audio], 1)
    absent = draw.stream(seed, "absent").uniform(size=codes.shape) < 0.1
    return np.where(absent, -1, codes).astype(np.int32)
