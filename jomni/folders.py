"""Output folders that appear whole or not at all, and outputs of runs that go on where they stopped, one at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock

from jomni.errors import OutputError

LOCK = ".lock"
"""The file in a folder that whoever writes to it holds a lock on. One that was left behind by a kill is locked no more
and means nothing."""


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str], check: Callable[[Path, Sequence[str]], None]) -> Iterator[Path]:
    """Return a temporary folder to write into, which takes its place as `folder` when the block ends without an error.

    Args:
      folder: to be made, or replaced. A link stays a link, to the new content.
      check: raises `OutputError` if a folder that holds these names must not be replaced; not called for an empty one.

    Raises:
      OutputError: `folder` is something else, must not be replaced, or cannot be written. Other errors of the block
        reach the caller as they are, those of other files too.
    """
    named = Path(folder).expanduser()
    target = Path(os.path.realpath(named))
    if not target.is_dir() and (target.exists() or named.is_symlink()):
        raise OutputError(f"{named}: is not a folder. Name a folder to write to.")
    held = sorted(os.listdir(target)) if target.is_dir() else []
    if held:
        check(named, held)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{named}: cannot be written ({error.strerror}). Choose another folder.") from None
    try:
        made = scratch / "new"
        try:
            made.mkdir()
            yield made
        except OSError as error:
            if _concerns(scratch, error):
                raise _not_written(named, error) from error
            raise
        try:
            _replace(target, made, scratch / "old")
        except OSError as error:
            raise _not_written(named, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(target: Path, new: Path, old: Path) -> None:
    """Put a folder in the place of another, which is put aside; as it was if that fails."""
    if target.is_dir():
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise


def _not_written(named: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{named}: could not be written ({error.strerror or error}); nothing was changed. "
        "Check the free space and the permissions."
    )


def _concerns(folder: Path, error: OSError) -> bool:
    """Whether it is an error of a file within the folder, or, where none is named, of the space that there is."""
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    if not names:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(Path(os.fsdecode(name)).is_relative_to(folder) for name in names)


@contextlib.contextmanager
def locked(folder: Path, other: str = "folder") -> Iterator[None]:
    """Keep other processes from writing to a folder as long as the block lasts; the system frees it on any death.

    On a file system without locks (some network file systems) the block runs without one.

    Args:
      folder: that there is.
      other: what else may be named instead, for people.

    Raises:
      OutputError: another process has it.
      OSError: the folder cannot be written to.
    """
    path = folder / LOCK
    lock = filelock.FileLock(path, timeout=0.1, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise OutputError(
            f"{folder}: another jomni is at work in this folder. Wait until it is done, or name another {other}."
        ) from None
    except OSError as error:
        if error.filename is not None:  # of the file, not of the call that locks its descriptor
            raise
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # the folder may be gone
                path.unlink()
            lock.release()


@contextlib.contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Report for people what a disk that fails means for a run that goes on where it stopped.

    Raises:
      OutputError: nothing more could be written to `path`.
    """
    try:
        yield
    except OSError as error:
        cure = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "See to it"
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}). {cure} and run the same command again: it resumes."
        ) from error
