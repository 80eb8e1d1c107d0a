"""`jomni train` in a process of its own, and what it leaves in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def start(case: Path, out: Path, *overrides: str, **environment: str) -> subprocess.Popen:
    """Begins to train a case, a configuration file in tests/, as the first of a process group."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-m", "jomni", "train", str(case), "--out", str(out), *overrides]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen, code: int = 0, seconds: float = 300) -> str:
    """What it said, once it has ended with this exit code, within so long."""
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said


def checkpoints(folder: Path) -> list[int]:
    """Steps of a run's complete checkpoints, in order."""
    return sorted(int(path.name) for path in folder.glob("checkpoints/*") if path.name.isdigit())
