"""What `jomni talk` tells of a conversation: the content of NAME.json."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jomni.audio import AudioInfo
from jomni.codec.config import MimiConfig
from jomni.generate.conversation import Frame, Piece, heard, silent_tokens, text_pieces
from jomni.weights import Checkpoint


@dataclasses.dataclass(frozen=True)
class Conversation:
    """One slot's conversation, taken out of its batch."""

    codec: MimiConfig
    frames: list[Frame]  # those in which it went on; the arrays in them still have a row for each slot
    slot: int
    lead_in: float  # silence fed before the recording, seconds
    pieces: list[Piece]  # of text; none where the model brings no tokenizer
    voice: np.ndarray  # float32 [T], as heard since the recording began; empty where the model has no voice


def conversation_of(frames: Sequence[Frame], slot: int, checkpoint: Checkpoint, lead_in: float) -> Conversation:
    """Takes one slot's conversation out of a batch."""
    codec, lm = checkpoint.mimi, checkpoint.lm
    assert codec is not None and lm is not None
    mine = [frame for frame in frames if frame.active[slot]]
    tokenizer = checkpoint.text_tokenizer()
    pieces: list[Piece] = []
    if tokenizer is not None:
        tokens = [int(frame.text[slot]) for frame in mine]
        pieces = text_pieces(tokens, tokenizer, silent_tokens(lm), codec.frame_rate, lead_in)
    voice = np.zeros(0, np.float32)
    if lm.dep_q:
        voice = heard(mine, slot)[round(lead_in * codec.sample_rate) :]
    return Conversation(codec, mine, slot, lead_in, pieces, voice)


def report_of(info: AudioInfo, conversation: Conversation, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that NAME.json tells of one conversation, as plain Python values.

    Times are seconds since the recording began, as heard live: what answers user frame f comes when that frame is
    complete, at (f + 1) / frame_rate. Frames of a lead-in have negative times.
    """
    codec, frames, slot = conversation.codec, conversation.frames, conversation.slot
    spent = np.array([frame.milliseconds for frame in frames])
    seconds = len(frames) / codec.frame_rate
    return {
        "text": "".join(piece.text for piece in conversation.pieces).strip(),
        "pieces": [
            {"time": piece.time, "frame": piece.frame, "token": piece.token, "text": piece.text}
            for piece in conversation.pieces
        ],
        "input": {
            "path": str(info.path), "seconds": round(info.seconds, 6), "sample_rate": info.sample_rate,
            "channels": info.channels, "conversion": info.conversion(codec.sample_rate),
        },
        "settings": dict(settings),
        "versions": versions(),
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.frame_rate,
        "milliseconds_per_frame": {
            "median": round(float(np.median(spent)), 3), "p95": round(float(np.percentile(spent, 95)), 3),
            "largest": round(float(spent.max()), 3), "live_limit": round(1e3 / codec.frame_rate, 3),
        },
        "real_time_factor": round(float(spent.sum() / 1e3 / seconds), 4),
        "frames": [
            {
                "time": round((f.index + 1) / codec.frame_rate - conversation.lead_in, 6), "valid": bool(f.valid[slot]),
                "text": int(f.text[slot]), "agent": f.codes[slot].tolist(), "user": f.user_codes[slot].tolist(),
                "milliseconds": round(f.milliseconds, 3),
            }
            for f in frames
        ],
    }  # fmt: skip


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes JSON that people can read too: one line for each piece and frame."""
    lines = []
    for key, value in report.items():
        if key in ("pieces", "frames") and value:
            rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def summary(report: Mapping[str, Any]) -> str:
    """One line on a conversation."""
    spent, limit = report["milliseconds_per_frame"]["median"], report["milliseconds_per_frame"]["live_limit"]
    count = len(report["frames"])
    text = report["text"] or "(no text)"
    return f"{count} frames, {spent:.1f} ms a frame of {limit:g} ms: {text}"


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("jomni", "jax", "jaxlib", "flax", "numpy", "soxr")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
