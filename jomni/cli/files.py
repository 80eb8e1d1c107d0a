"""Output files and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jomni import audio
from jomni.errors import OutputError


@contextlib.contextmanager
def output_file(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Return a temporary file beside `path`, moved onto it at the end and removed if anything goes wrong.

    Entering shows that the place can be written, so enter before the work begins.

    Raises:
      OutputError: `path` exists and `force` is false, is no regular file or one of the `inputs`, or cannot be written.
    """
    if os.path.isdir(path):
        raise OutputError(f"{path}: this is a folder. Give the name of a file.")
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise OutputError(f"{path}: this is a pipe or a device. Give the name of a regular file.")
        for source in inputs:
            if os.path.exists(source) and os.path.samefile(path, source):
                raise OutputError(f"{path}: this is the input {source}, never overwritten. Choose another name.")
        if not force:
            raise OutputError(f"{path}: exists already. Choose another name, or overwrite it with --force.")
    target = Path(os.path.realpath(path))  # a link stays a link, to the new content
    with writing(path, _cure(target.parent)):
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with writing(path):
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def check_folder(path: Path, *, force: bool, source: Path) -> None:
    """Check, before the work begins, that `jomni.save` can write a folder.

    Raises:
      OutputError: `path` is a file, is not empty and `force` is false, holds the `source`, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    with writing(path, "Choose another folder."):
        held = os.listdir(target) if target.is_dir() else []
    if held:
        if os.path.exists(source) and Path(os.path.realpath(source)).is_relative_to(target):
            raise OutputError(f"{path}: holds the input {source}, never overwritten. Choose another folder.")
        if not force:
            raise OutputError(f"{path}: exists already. Choose another folder, or replace it with --force.")
    if os.path.exists(target) and not os.path.isdir(target):
        raise OutputError(f"{path}: this is a file. Give the name of a folder.")
    parent = next(folder for folder in target.parents if os.path.exists(folder))
    with writing(path, _cure(parent)), tempfile.TemporaryDirectory(dir=parent):
        pass


@contextlib.contextmanager
def writing(path: Path, cure: str = "Free some space, or choose another place.") -> Iterator[None]:
    """Turn an `OSError` while writing `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}). {cure}") from error


@contextlib.contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Make a folder and its missing parents; if the block fails, remove those that were made.

    Raises:
      OutputError: the folder cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
    with writing(path, "Choose another folder."):
        path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # something else was put there in the meantime
                folder.rmdir()
        raise


class Place(NamedTuple):
    """An output file: its name, and the temporary file that becomes it."""

    final: Path
    part: Path


@contextlib.contextmanager
def output_files(
    folder: Path, names: Iterable[str], *, force: bool, inputs: Iterable[Path]
) -> Iterator[dict[str, Place]]:
    """Yield the output files of one folder by name: each as with `output_file`, all of them or none.

    A missing folder is made.
    """
    inputs = list(inputs)
    with contextlib.ExitStack() as outputs:
        outputs.enter_context(made_folder(folder))
        yield {
            name: Place(folder / name, outputs.enter_context(output_file(folder / name, force=force, inputs=inputs)))
            for name in names
        }


def write_audio(place: Place, pcm: np.ndarray, sample_rate: int) -> list[str]:
    """Write samples, float [T] in [-1, 1], at `sample_rate` Hz; return lines to print about them."""
    with audio.AudioWriter(place.part, sample_rate, place.final) as writer:
        writer.write(pcm)
    if not writer.clipped:
        return []
    return [f"{place.final}: {writer.clipped} samples beyond full scale were limited to it"]


def unique_names(inputs: Iterable[Path]) -> list[str]:
    """Return a name for each input's results: its stem, with -2, -3, ... where that is taken already."""
    inputs = list(inputs)
    taken: set[str] = set()
    stems = {path.stem.casefold() for path in inputs}
    names = []
    for path in inputs:
        name, number = path.stem, 1
        # A numbered name must not take that of a later input either. Some file systems ignore case.
        while name.casefold() in taken or (number > 1 and name.casefold() in stems):
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _cure(parent: Path) -> str:
    if not parent.exists():
        return f"There is no folder {parent}: make it first, or choose another place."
    return "Choose a folder that you may write to."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
