"""Tokenization of a manifest's conversations into a folder of codes. Each shard is written atomically.

A killed run keeps its finished shards, and the same call continues after them. The codec is passed in as a function.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jomni.data.conversations.alignment import words_of
from jomni.data.conversations.codes import (
    HEADER,
    Conversation,
    Header,
    Shard,
    decode_record,
    encode_record,
    read_header,
    shard_name,
    write_header,
)
from jomni.data.manifest import Item, Needs, Report, read_manifest
from jomni.errors import DataError, OutputError
from jomni.folders import LOCK, locked

_PART = ".part"
"""Suffix of files that are being written. Their names start with a dot. Those of a killed run are deleted."""


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The codec of a tokenization."""

    encode: Callable[[Float[np.ndarray, "B T"]], Int[np.ndarray, "B K N"]]  # causal, of whole waveforms
    identity: str  # of its configuration and weights
    name: str
    sample_rate: int  # Hz
    frame_rate: float  # Hz
    codebooks: int
    bins: int

    @property
    def frame_size(self) -> int:
        """Return the number of samples in a frame."""
        return round(self.sample_rate / self.frame_rate)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked tokenization that is ready to run."""

    out: Path
    report: Report  # of the manifest
    header: Header
    encoder: Encoder
    left: tuple[int, ...]  # indices of the unfinished shards
    batch: int  # waveforms encoded at once
    bucket: int  # frames; lengths are padded to a multiple of it, so that few lengths are compiled

    @property
    def shards(self) -> int:
        """Return the number of shards."""
        return -(-len(self.report.items) // self.header.shard_size)

    @property
    def seconds_left(self) -> float:
        """Return the duration of the conversations in unfinished shards, in seconds."""
        return sum(item.seconds for shard in self.left for item in self.items(shard))

    def items(self, shard: int) -> tuple[Item, ...]:
        """Return the items of one shard."""
        return self.report.items[shard * self.header.shard_size : (shard + 1) * self.header.shard_size]


def plan_tokenization(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    encoder: Encoder,
    *,
    shard_size: int = 256,
    batch: int = 16,
    bucket: int = 125,
    skip_bad: bool = False,
) -> Plan:
    """Check the manifest and the output folder, and return what is left to do.

    Args:
      manifest: stereo conversations with words, agent left and user right (see `jomni.data.manifest`).
      out: folder for the codes. It is created if missing.
      encoder: the codec.
      shard_size: conversations in each shard.
      batch: waveforms encoded at once, two per conversation.
      bucket: frames. Waveforms are padded with silence to a multiple of it. The codec is causal, so codes before the
        padding do not change.
      skip_bad: leave out bad items instead of rejecting the manifest.

    Raises:
      DataError: items cannot be used, or `out` holds codes of another codec, manifest or shard size.
      OutputError: `out` cannot be written, holds other files, or is being written by another process.
    """
    if encoder.bins > 1 << 16:
        raise DataError(f"{encoder.name}: codebooks of {encoder.bins} entries exceed the 16 bits of the records.")
    out = Path(out)
    report = read_manifest(manifest, Needs(encoder.sample_rate, 2, ("alignments",)), skip_bad=skip_bad)
    header = Header(
        encoder.identity, encoder.name, encoder.sample_rate, encoder.frame_rate, encoder.codebooks, encoder.bins,
        _fingerprint(report.items), shard_size,
    )  # fmt: skip
    prepare_folder(out, header)
    plan = Plan(out, report, header, encoder, (), max(2, batch), bucket)
    left = tuple(index for index in range(plan.shards) if not (out / shard_name(index, plan.shards)).exists())
    return dataclasses.replace(plan, left=left)


def tokenize(plan: Plan, progress: Callable[[float], None] = lambda seconds: None) -> Header:
    """Write the unfinished shards of a plan and the final header.

    Args:
      plan: from `plan_tokenization`.
      progress: called with the seconds of conversation encoded since the last call.

    Returns:
      The header of the complete folder.

    Raises:
      DataError: a recording can no longer be read, or the codec returned codes out of range.
      OutputError: the disk is full, or another process is writing to the folder.
    """
    with finishing(plan.out):
        for shard in plan.left:
            write_shard(plan.out / shard_name(shard, plan.shards), _encode_items(plan, plan.items(shard), progress))
        shards = []
        for shard in range(plan.shards):
            name = shard_name(shard, plan.shards)
            shards.append(Shard(name, tuple(conversation.frames for conversation in read_shard(plan.out / name))))
        header = dataclasses.replace(plan.header, shards=tuple(shards))
        write_header(plan.out, header)
    return header


def prepare_folder(out: Path, header: Header) -> None:
    """Create a folder for codes with an incomplete header, or check that an existing one has the same header.

    Raises:
      DataError: the folder holds codes with another header.
      OutputError: it cannot be written, holds other files, or another process is writing to it.
    """
    try:
        held = sorted(os.listdir(out)) if out.exists() else []
        others = [name for name in held if name != LOCK and not _is_part(name)]
        if others and HEADER not in held:
            raise OutputError(f"{out}: holds {others[0]} but no codes. Choose another folder.")
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            if (out / HEADER).exists():
                _refuse_others(out, read_header(out, complete=False), header)
            else:
                write_header(out, header)
            for name in filter(_is_part, os.listdir(out)):  # of a killed run: the lock excludes other writers
                (out / name).unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error}). Choose another folder.") from error


@contextlib.contextmanager
def finishing(out: Path) -> Iterator[None]:
    """Lock a folder of shards while it is written. Convert an `OSError` into an `OutputError` that names the cure."""
    try:
        with locked(out):
            yield
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}). Free some space and run the same command again: it "
            "continues after the finished shards."
        ) from error


def read_shard(path: Path) -> Iterator[Conversation]:
    """Yield the conversations of one shard."""
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(os.fspath(path))
    try:
        for index in range(reader.num_records()):
            yield decode_record(reader.read([index])[0])
    finally:
        reader.close()


def _encode_items(plan: Plan, items: Sequence[Item], progress: Callable[[float], None]) -> list[Conversation]:
    """Return the conversations of the items in their order. Those of similar length are encoded together."""
    found: dict[int, Conversation] = {}
    frame, group = plan.encoder.frame_size, plan.batch // 2
    order = sorted(range(len(items)), key=lambda index: items[index].num_samples)
    for first in range(0, len(order), group):
        chosen = order[first : first + group]
        longest = max(-(-items[index].num_samples // frame) for index in chosen)
        pcm = np.zeros((2 * group, bucketed(longest, plan.bucket) * frame), np.float32)
        for row, index in enumerate(chosen):
            held = items[index].read()
            pcm[2 * row : 2 * row + 2, : held.shape[1]] = held
        codes = np.asarray(plan.encoder.encode(pcm))
        if codes.min() < 0 or codes.max() >= plan.encoder.bins:
            raise DataError(f"{plan.encoder.name}: returned codes outside 0 ... {plan.encoder.bins - 1}.")
        for row, index in enumerate(chosen):
            frames = -(-items[index].num_samples // frame)
            agent, user = codes[2 * row : 2 * row + 2, :, :frames].astype(np.uint16)
            content = items[index].read_sidecar()
            words = tuple(words_of(content))
            meta = {key: value for key, value in content.items() if key != "alignments"}
            found[index] = Conversation(items[index].name, agent, user, words, meta)
        progress(sum(items[index].seconds for index in chosen))
    return [found[index] for index in range(len(items))]


def bucketed(frames: int, bucket: int) -> int:
    """Return `frames`, rounded up to a multiple of `bucket`."""
    return -(-frames // bucket) * bucket


def write_shard(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write one shard atomically."""
    from array_record.python import array_record_module

    part = path.with_name(f".{path.name}{_PART}")
    try:
        writer = array_record_module.ArrayRecordWriter(os.fspath(part), "group_size:1")  # fast access to any record
        for conversation in conversations:
            writer.write(encode_record(conversation))
        writer.close()
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PART)


def _refuse_others(out: Path, held: Header, wanted: Header) -> None:
    said = {
        "codec": "another codec", "manifest": "another manifest, or recordings or words that have changed since",
        "codebooks": "{} codebooks, not {}", "shard_size": "shards of {} conversations, not {}",
        "sample_rate": "{} Hz, not {}", "frame_rate": "{} frames per second, not {}", "bins": "{} codes, not {}",
        "own": "another model's self-rollout",
    }  # fmt: skip
    differ = [
        text.format(getattr(held, name), getattr(wanted, name))
        for name, text in said.items()
        if getattr(held, name) != getattr(wanted, name)
    ]
    if differ:
        raise DataError(f"{out}: holds codes of {'; '.join(differ)}. Choose another folder, or remove this one.")


def _fingerprint(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.name}\0{item.num_samples}\0".encode())
        digest.update(hashlib.sha256(item.sidecar.read_bytes()).digest())
    return digest.hexdigest()
