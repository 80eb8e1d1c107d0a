"""Output files that appear whole or not at all, and the npz files of codes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jomni import audio
from jomni.errors import AudioError, OutputError


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
    """Make sure, before the work begins, that `jomni.save` will be able to write a folder.

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
    """Turn what the operating system says against writing `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}). {cure}") from error


@contextlib.contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Make a folder and those above it where they are missing; if anything goes wrong, those made are removed again.

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
    """Files of one folder, made where it is missing, by name: each as with `output_file`, all of them or none."""
    inputs = list(inputs)
    with contextlib.ExitStack() as outputs:
        outputs.enter_context(made_folder(folder))
        yield {
            name: Place(folder / name, outputs.enter_context(output_file(folder / name, force=force, inputs=inputs)))
            for name in names
        }


def write_audio(place: Place, pcm: np.ndarray, sample_rate: int) -> list[str]:
    """Write samples [T] at `sample_rate` Hz; return the notes about them."""
    with audio.AudioWriter(place.part, sample_rate, place.final) as writer:
        writer.write(pcm)
    if not writer.clipped:
        return []
    return [f"{place.final}: {writer.clipped} samples beyond full scale were limited to it"]


def unique_names(inputs: Iterable[Path]) -> list[str]:
    """Return a name for each input's results: its own without the ending, with -2, -3, ... where that is taken."""
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


_LEVEL = re.compile(r"codes_\d+")  # a codebook of a codec whose codebooks have different rates


@dataclasses.dataclass(frozen=True)
class Codes:
    """The content of an npz file of codes.

    Codebooks of one rate are the array `codes`; of several rates, the arrays `codes_0`, `codes_1`, ..., coarse to fine.
    """

    codes: np.ndarray | tuple[np.ndarray, ...]  # int32 [K, N]: codebooks by frames; of several rates: one [N_k] each
    frame_rate: float | None  # Hz; None where the file does not say
    sample_rate: int | None  # Hz, likewise
    num_samples: int | None  # length of the recording at `sample_rate`, likewise
    model: str  # the model that made them, likewise ""


def write_codes(path: Path, codes: Codes) -> None:
    """Write a compressed npz file under exactly this name; raises `OutputError` where that fails."""
    held = {k: v for k, v in dataclasses.asdict(codes).items() if v is not None and k != "codes"}
    if isinstance(codes.codes, tuple):
        held |= {f"codes_{k}": c.astype(np.int32) for k, c in enumerate(codes.codes)}
    else:
        held["codes"] = codes.codes.astype(np.int32)
    with writing(path), path.open("wb") as file:
        np.savez_compressed(file, **held)


def read_codes(path: Path) -> Codes:
    """Read and check an npz file of codes, without ever running code from it.

    Raises:
      AudioError: the file is missing, empty, no npz, damaged or pickled, or its entries are not what `Codes` says.
    """
    if not os.path.exists(path):
        raise AudioError(f"{path}: there is no such file. Check the name.")
    if not os.path.isfile(path):
        raise AudioError(f"{path}: this is not a regular file. Give an npz file of codes.")
    try:
        if os.path.getsize(path) == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes). Make it again with 'jomni encode'.")
        if not zipfile.is_zipfile(path):
            raise AudioError(f"{path}: not an npz file, or cut short. Give a file made by 'jomni encode'.")
        with np.load(path, allow_pickle=False) as archive:
            held: dict[str, Any] = {
                key: archive[key]
                for key in archive.files
                if key in ("codes", "frame_rate", "sample_rate", "num_samples", "model") or _LEVEL.fullmatch(key)
            }
            names = archive.files
    except (OSError, ValueError, MemoryError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise AudioError(
            f"{path}: the npz file is damaged, or holds Python objects ({error}). Make it again with 'jomni encode'."
        ) from error
    levels = [name for name in held if _LEVEL.fullmatch(name)]
    if "codes" not in held and not levels:
        found = ", ".join(names) or "nothing"
        raise AudioError(f"{path}: holds no array 'codes' (it holds {found}). Give a file made by 'jomni encode'.")
    codes: np.ndarray | tuple[np.ndarray, ...]
    if levels:
        wanted = [f"codes_{k}" for k in range(len(levels))]
        if "codes" in held or sorted(levels) != sorted(wanted):
            raise AudioError(
                f"{path}: holds {', '.join(k for k in names if k.startswith('codes'))}. Codes of several rates are "
                "'codes_0', 'codes_1', ..., coarse to fine, without gaps and without 'codes'."
            )
        codes = tuple(_tokens(path, name, held[name], "[N], one codebook's tokens", 1) for name in wanted)
    else:
        codes = _tokens(path, "codes", held["codes"], "[K, T], codebooks by frames", 2)
    return Codes(
        codes,
        _scalar(path, held, "frame_rate", float),
        _scalar(path, held, "sample_rate", int),
        _scalar(path, held, "num_samples", int),
        _scalar(path, held, "model", str) or "",
    )


def check_rates(path: Path, given: Codes, frame_rate: float, sample_rate: int, model: str) -> None:
    """Raise `AudioError` where the file says that its codes are of other rates, Hz, than the model's."""
    for name, said, needed in (
        ("frame_rate", given.frame_rate, frame_rate), ("sample_rate", given.sample_rate, sample_rate)
    ):  # fmt: skip
        if said is not None and said != needed:
            raise AudioError(
                f"{path}: was made with a {name} of {said:g} Hz, but {model} has {needed:g} Hz. "
                "Give the model that made the codes."
            )


def _tokens(path: Path, name: str, codes: np.ndarray, shape: str, axes: int) -> np.ndarray:
    if codes.dtype.kind not in "iu":
        raise AudioError(f"{path}: '{name}' must be whole numbers (int32), but they are {codes.dtype}. Convert them.")
    if codes.ndim != axes or 0 in codes.shape:
        raise AudioError(
            f"{path}: '{name}' must have shape {shape}, at least one of each, but it has "
            f"{list(codes.shape)}. Save one recording's codes in each file."
        )
    if codes.min() < 0 or codes.max() > np.iinfo(np.int32).max:
        raise AudioError(
            f"{path}: '{name}' must lie in a codebook, but they range from {codes.min()} to {codes.max()}. "
            "Take out masks and padding first."
        )
    return codes.astype(np.int32)


def _scalar(path: Path, held: dict[str, Any], name: str, kind: type) -> Any:
    if name not in held:
        return None
    value = held[name]
    fits = "U" if kind is str else "iu" if kind is int else "iuf"
    if value.shape != () or value.dtype.kind not in fits or (kind is not str and not 0 < value < np.inf):
        wanted = {"str": "a text", "int": "one positive whole number", "float": "one positive number"}[kind.__name__]
        raise AudioError(f"{path}: '{name}' must be {wanted}, but it is {value.dtype} {value}. Correct or remove it.")
    return kind(value)


def _cure(parent: Path) -> str:
    if not parent.exists():
        return f"There is no folder {parent}: make it first, or choose another place."
    return "Choose a folder that you may write to."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
