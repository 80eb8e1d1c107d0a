"""What the agent says: one voice, one manner, one level; the same text is the same samples, so it may be kept.

Unit selection is the slowest part of making conversations, and most answers recur: kept on disk they take a third of
the time.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

from .speak import Speech, speak
from .voices import AGENT, AGENT_MANNER

_folder: Path | None = None


def keep_answers(folder: Path | None) -> None:
    """Keep what the agent says from now on, in a folder that processes may share; None: no longer."""
    global _folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    _folder = folder


def agent_says(text: str) -> Speech:
    """Return the agent's speech, before its level is set."""
    if _folder is None:
        return speak(text, AGENT, AGENT_MANNER)
    path = _folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    speech = speak(text, AGENT, AGENT_MANNER)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(pickle.dumps(speech))
    partial.rename(path)
    return speech
