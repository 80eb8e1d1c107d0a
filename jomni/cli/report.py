"""The content of NAME.json, which `jomni talk` writes for each recording."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni.audio import AudioInfo

if TYPE_CHECKING:
    from jomni.models.moshi.conversation import Transcript
    from jomni.models.snac.config import SnacConfig


@dataclasses.dataclass
class Steps:
    """The steps of one answer of a model that takes turns, filled as they come."""

    pieces: list[tuple[int, str]] = dataclasses.field(default_factory=list)  # step and text
    frames: list[list[int]] = dataclasses.field(default_factory=list)  # codes of the audio streams; empty: silence
    pcm: list[np.ndarray] = dataclasses.field(default_factory=list)  # float32 at the codec's rate
    milliseconds: list[float] = dataclasses.field(default_factory=list)  # of each step
    complete: bool = False  # the model ended the answer itself


def conversation_report(info: AudioInfo, transcript: Transcript, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report on a full-duplex conversation, as plain Python values.

    Times are seconds since the recording began, as heard live: what answers user frame f comes when that frame is
    complete, at (f + 1) / frame_rate. Frames of a lead-in have negative times.
    """
    from jomni.models.moshi.conversation import joined

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
    asked: AudioInfo | str, sample_rate: int, steps: Steps, codec: SnacConfig | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the report on a question and its answer, as plain Python values.

    Times are seconds of the answer's audio. Codes are in the order of the model's audio streams; a frame of silence
    has none.

    Args:
      asked: the recording, or the question in writing.
      sample_rate: to which the recording was resampled for the speech encoder, Hz.
      steps: of the answer.
      codec: of the answer's audio; None: the answer is text alone.
      settings: of the run.
    """
    report = {
        "text": "".join(text for _, text in steps.pieces),
        "complete": steps.complete,
        "pieces": [{"step": step, "text": text} for step, text in steps.pieces],
        "input": {"text": asked} if isinstance(asked, str) else _recording(asked, sample_rate),
        "settings": dict(settings),
        "versions": versions(),
        "steps": len(steps.milliseconds),
        "milliseconds_per_step": {"median": round(float(np.median(steps.milliseconds)), 3)},
    }
    if codec is None:
        return report
    rate = codec.frame_rate
    frames = [{"time": round(i / rate, 6), "codes": codes} for i, codes in enumerate(steps.frames)]
    return report | {"sample_rate": codec.sampling_rate, "frame_rate": rate, "frames": frames}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON with one line for each piece and frame, so that people can read it too."""
    lines = []
    for key, value in report.items():
        if key in ("pieces", "frames") and value:
            rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def conversation_summary(report: Mapping[str, Any]) -> str:
    """Return one line on a conversation: its length, its speed, and the text of user and agent."""
    spent, limit = report["milliseconds_per_frame"]["median"], report["milliseconds_per_frame"]["live_limit"]
    count = len(report["frames"])
    text = report["text"] or "(no text)"
    heard = f"{report['heard']} -> " if report["heard"] else ""
    return f"{count} frames, {spent:.1f} ms a frame of {limit:g} ms: {heard}{text}"


def answer_summary(report: Mapping[str, Any]) -> str:
    """Return one line on an answer, without its text."""
    cut = "" if report["complete"] else ", broken off there: longer than --max-tokens or the context allow"
    return f"{report['steps']} steps, {report['milliseconds_per_step']['median']:.1f} ms a step{cut}"


def _recording(info: AudioInfo, rate: int) -> dict[str, Any]:
    return {
        "path": str(info.path), "seconds": round(info.seconds, 6), "sample_rate": info.sample_rate,
        "channels": info.channels, "conversion": info.conversion(rate),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    names = ("jomni", "jax", "jaxlib", "flax", "numpy", "soxr")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
