"""The agent's speech: one voice and manner. The same text gives the same samples, so speech can be cached.

Unit selection is the slowest part of making conversations, and most answers recur. A cache on disk reduces the time to
a third.
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
    """Cache the agent's speech in a folder, which processes may share; None: stop caching."""
    global _folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    _folder = folder


def agent_says(text: str) -> Speech:
    """Return the agent's speech for a text, before its level is set."""
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
