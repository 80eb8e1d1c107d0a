"""The folder of compiled programs that test runs share, and its limits."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from pathlib import Path

import jax
import jaxlib

LIMIT = 2 * 2**30
"""Bytes that the folder may hold when a run begins."""

DAYS = 30
"""Days without use after which the folders of other versions and processors are removed."""


def folder() -> Path:
    """Return the folder of compiled programs: one per version of jax and jaxlib and per processor.

    A program compiled for one processor may use instructions that another lacks.
    """
    cpuinfo = Path("/proc/cpuinfo")
    processor = [platform.machine(), platform.processor()]
    if cpuinfo.exists():
        wanted = ("model name", "flags", "Features", "CPU part")
        processor += sorted({line for line in cpuinfo.read_text().splitlines() if line.startswith(wanted)})
    key = hashlib.sha256("\n".join(processor).encode()).hexdigest()[:12]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "jomni" / "xla" / f"jax-{jax.__version__}-jaxlib-{jaxlib.__version__}-{key}"


def prepare(used: Path, limit: int = LIMIT, days: float = DAYS) -> None:
    """Make the folder `used` and delete what is too much or too old: call it once, before a run.

    Deletes the programs in `used` that were read or written longest ago, until the rest takes at most `limit` bytes,
    and the folders beside it that no run has used for `days`. A folder's modification time is its last use.

    The limit is not left to jax (`jax_compilation_cache_max_size`): jax then holds a lock and reads a file per program
    for every program that it adds, and adds none once a killed process has left a program without its time of use.
    """
    used.mkdir(parents=True, exist_ok=True)
    os.utime(used)
    for other in used.parent.iterdir():
        if other.is_dir() and other.stat().st_mtime < time.time() - 86_400 * days:
            shutil.rmtree(other, ignore_errors=True)
    programs = []
    for path in used.iterdir():
        try:
            stat = path.stat()
        except FileNotFoundError:  # another run has deleted it
            continue
        programs.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    total = sum(size for _, size, _ in programs)
    for _, size, path in sorted(programs):
        if total <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size
