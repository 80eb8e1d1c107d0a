"""The npz files of codes that `jomni encode` writes and `jomni decode` reads."""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni.cli.files import writing
from jomni.errors import AudioError

if TYPE_CHECKING:
    from jomni.models.codec import Codec

_LEVEL = re.compile(r"codes_\d+")  # a codebook of a codec whose codebooks have different rates


@dataclasses.dataclass(frozen=True)
class Codes:
    """Content of an npz file of codes.

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


def check_codes(path: Path, given: Codes, codec: Codec, model: str) -> None:
    """Raise `AudioError` unless the codec of a model can decode the codes of a file."""
    codes = given.codes
    try:
        codec.check_codes(tuple(c[None] for c in codes) if isinstance(codes, tuple) else codes[None])
    except AudioError as error:
        raise AudioError(f"{path}: {error}. Give the model that made the codes; {model} was given.") from None
    _check_rates(path, given, codec.frame_rate, codec.sample_rate, model)
    frames, multiple = codes[0].shape[-1], codec.frame_multiple
    if given.num_samples is None:
        return
    if frames != -(-given.num_samples // (codec.frame_size * multiple)) * multiple:
        raise AudioError(
            f"{path}: says that {frames} frames hold {given.num_samples} samples, which cannot be at "
            f"{codec.frame_size} samples a frame. Correct or remove 'num_samples'."
        )


def _check_rates(path: Path, given: Codes, frame_rate: float, sample_rate: int, model: str) -> None:
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
