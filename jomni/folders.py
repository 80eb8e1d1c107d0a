"""Output folders: written atomically, or locked and resumable."""

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
"""Name of the file in a folder that is locked while a process writes there. The file of a killed process has no lock,
and no effect."""


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str], check: Callable[[Path, Sequence[str]], None]) -> Iterator[Path]:
    """Yield a temporary folder to write into, which replaces `folder` if the block ends without an error.

    Args:
      folder: folder to create or replace. A symbolic link is kept, and its target replaced.
      check: called with an existing folder and the names in it, unless it is empty; raises `OutputError` if it must not
        be replaced.

    Raises:
      OutputError: `folder` is not a folder, must not be replaced, or cannot be written. Other errors of the block,
        including those about other files, are passed on.
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
    """Move `new` to `target`, and an existing `target` to `old`. Restore it if that fails."""
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
    """Return whether an error is about a file in the folder or, if it names no file, about disk space."""
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    if not names:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(Path(os.fsdecode(name)).is_relative_to(folder) for name in names)


@contextlib.contextmanager
def locked(folder: Path, other: str = "folder") -> Iterator[None]:
    """Lock a folder against other processes during the block. The system releases the lock if the process dies.

    On a file system without locks (some network file systems), the block runs without one.

    Args:
      folder: an existing folder.
      other: word for the thing to choose instead, for the message.

    Raises:
      OutputError: another process has locked the folder.
      OSError: the folder cannot be written to.
    """
    path = folder / LOCK
    lock = filelock.FileLock(path, timeout=0.1, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise OutputError(
            f"{folder}: another jomni process is using this folder. Wait until it ends, or name another {other}."
        ) from None
    except OSError as error:
        if error.filename is not None:  # about the file itself, not about locking it
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
    """Convert an `OSError` of a resumable run into an `OutputError` that says what to do.

    Raises:
      OutputError: `path` cannot be written.
    """
    try:
        yield
    except OSError as error:
        cure = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Correct this"
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}). {cure} and run the same command again: it resumes."
        ) from error
