"""What `jomni talk` tells of a conversation: the content of NAME.json."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni.audio import AudioInfo
from jomni.models.moshi.conversation import Transcript, joined

if TYPE_CHECKING:
    from jomni.cli.omni_talk import Answer
    from jomni.models.snac.config import SnacConfig


def report_of(info: AudioInfo, transcript: Transcript, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that NAME.json tells of one conversation, as plain Python values.

    Times are seconds since the recording began, as heard live: what answers user frame f comes when that frame is
    complete, at (f + 1) / frame_rate. Frames of a lead-in have negative times.
    """
    codec, frames, slot = transcript.codec, transcript.frames, transcript.row
    spent = np.array([frame.milliseconds for frame in frames])
    seconds = len(frames) / codec.frame_rate
    return {
        "text": transcript.text,
        "heard": joined(transcript.user_pieces),
        "pieces": [
            {"time": piece.time, "frame": piece.frame, "token": piece.token, "text": piece.text}
            for piece in transcript.pieces
        ],
        "input": _recording(info, codec.sample_rate),
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
                "time": round((f.index + 1) / codec.frame_rate - transcript.lead_in, 6), "valid": bool(f.valid[slot]),
                "text": int(f.text[slot]), "agent": f.codes[slot].tolist(), "user": f.user_codes[slot].tolist(),
                "milliseconds": round(f.milliseconds, 3),
            }
            for f in frames
        ],
    }  # fmt: skip


def answer_report(
    answer: Answer, asked: AudioInfo | str, heard_at: int, codec: SnacConfig | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that NAME.json tells of a question and its answer, as plain Python values; `heard_at` is the ears' rate, Hz.

    Times are seconds of the answer's sound. Codes are in the order of the model's audio streams; a frame of silence
    has none.
    """
    report = {
        "text": answer.text,
        "complete": answer.complete,
        "pieces": [{"step": step, "text": text} for step, text in answer.pieces],
        "input": {"text": asked} if isinstance(asked, str) else _recording(asked, heard_at),
        "settings": dict(settings),
        "versions": versions(),
        "steps": answer.steps,
        "milliseconds_per_step": {"median": round(float(np.median(answer.milliseconds)), 3)},
    }
    if codec is None:
        return report
    rate = codec.frame_rate
    frames = [{"time": round(i / rate, 6), "codes": codes} for i, codes in enumerate(answer.frames)]
    return report | {"sample_rate": codec.sampling_rate, "frame_rate": rate, "frames": frames}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write JSON that people can read too: one line for each piece and frame."""
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
    heard = f"{report['heard']} -> " if report["heard"] else ""
    return f"{count} frames, {spent:.1f} ms a frame of {limit:g} ms: {heard}{text}"


def answer_summary(report: Mapping[str, Any]) -> str:
    """One line on an answer, but for its text."""
    cut = "" if report["complete"] else ", broken off there: longer than --max-tokens or the context allow"
    return f"{report['steps']} steps, {report['milliseconds_per_step']['median']:.1f} ms a step{cut}"


def _recording(info: AudioInfo, rate: int) -> dict[str, Any]:
    return {
        "path": str(info.path), "seconds": round(info.seconds, 6), "sample_rate": info.sample_rate,
        "channels": info.channels, "conversion": info.conversion(rate),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("jomni", "jax", "jaxlib", "flax", "numpy", "soxr")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
