"""Output folders that appear whole or not at all, and outputs of runs that go on where they stopped."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jomni.errors import OutputError


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str], check: Callable[[Path, Sequence[str]], None]) -> Iterator[Path]:
    """A temporary folder to write into, which takes its place as `folder` when the block ends without an error.

    Args:
      folder: to be made, or replaced. A link stays a link, to the new content.
      check: raises `OutputError` if a folder that holds these names must not be replaced; not called for an empty one.

    Raises:
      OutputError: `folder` is something else, must not be replaced, or cannot be written.
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
        made.mkdir()
        yield made
        if target.is_dir():
            os.rename(target, scratch / "old")
        try:
            os.rename(made, target)
        except OSError:
            if (scratch / "old").exists():
                os.rename(scratch / "old", target)
            raise
    except OSError as error:
        raise OutputError(
            f"{named}: could not be written ({error.strerror or error}); nothing was changed. "
            "Check the free space and the permissions."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Says for people what a disk that fails means for a run that goes on where it stopped.

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
