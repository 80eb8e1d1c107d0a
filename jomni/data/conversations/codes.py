"""Cached codes of conversations: records in ArrayRecord shards, and a header that identifies how they were made.

    OUT/codes.json                          `Header`
    OUT/codes-00000-of-00012.array_record   records, each the `encode_record` of a `Conversation`

A record consists of
- the 4 bytes "jomC", and the version (uint8);
- little-endian uint32 each: the agent's codebooks, the user's codebooks, the frames, and the bytes of the JSON;
- the JSON in UTF-8: name, words, meta, and whether there are `own` codes;
- the agent's codes, the user's codes and, if present, the agent's `own` codes (uint16).

Axes: K codebooks, N frames.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from jomni.data.conversations.alignment import Word
from jomni.errors import DataError

VERSION = 1
HEADER = "codes.json"
_MAGIC = b"jomC"
_FIXED = struct.Struct("<4sBIIII")


@dataclasses.dataclass(frozen=True)
class Conversation:
    """The codes and the labels of one conversation, stored as one record."""

    name: str  # its recording, as in the manifest
    agent: UInt16[np.ndarray, "K N"]
    user: UInt16[np.ndarray, "K N"]
    words: tuple[Word, ...] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # the other entries of the recording's JSON
    own: UInt16[np.ndarray, "K N"] | None = None  # the agent's codes as sampled by a model (`jomni self-rollout`)

    @property
    def frames(self) -> int:
        """Return N, the number of frames."""
        return self.agent.shape[1]


def encode_record(conversation: Conversation) -> bytes:
    """Serialise a conversation to the bytes of a record.

    Raises:
      DataError: codes are not uint16 [K, N], or differ in length.
    """
    agent, user, own = conversation.agent, conversation.user, conversation.own
    if own is not None and own.shape != agent.shape:
        raise DataError(f"{conversation.name}: own codes are {list(own.shape)}, the agent's are {list(agent.shape)}.")
    blocks = [agent, user] + ([] if own is None else [own])
    for codes in blocks:
        if codes.dtype != np.uint16 or codes.ndim != 2 or codes.shape[1] != agent.shape[1]:
            raise DataError(
                f"{conversation.name}: codes must be uint16 [codebooks, frames] of equal length, but they are "
                f"{agent.dtype} {list(agent.shape)} and {user.dtype} {list(user.shape)}."
            )
    content: dict[str, Any] = {"name": conversation.name, "words": conversation.words, "meta": dict(conversation.meta)}
    if own is not None:
        content["own"] = True
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    fixed = _FIXED.pack(_MAGIC, VERSION, len(agent), len(user), agent.shape[1], len(text))
    return b"".join([fixed, text, *(codes.astype("<u2").tobytes() for codes in blocks)])


def decode_record(record: bytes) -> Conversation:
    """Deserialise the conversation of a record.

    Raises:
      DataError: the bytes are not a record, have another version, or are damaged.
    """
    if len(record) < _FIXED.size or record[:4] != _MAGIC:
        raise DataError("not a record of codes. Give a folder made by 'jomni tokenize'.")
    _, version, agents, users, frames, size = _FIXED.unpack_from(record)
    if version != VERSION:
        raise DataError(f"a record of codes of version {version}, this jomni reads version {VERSION}. Tokenize again.")
    first = _FIXED.size + size
    try:
        content = json.loads(record[_FIXED.size : first])
        words = tuple(Word(*word) for word in content["words"])
        name, meta, has_own = content["name"], content["meta"], content.get("own", False)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"a record of codes is damaged: {error}") from error
    sizes = [agents, users] + ([agents] if has_own else [])
    end = first + 2 * sum(sizes) * frames
    if len(record) != end:
        raise DataError(f"a record of codes is damaged: it has {len(record)} bytes, it should have {end}.")
    rows = np.frombuffer(record[first:], "<u2").astype(np.uint16).reshape(sum(sizes), frames)
    agent, user, own = np.split(rows, [agents, agents + users])
    return Conversation(name, agent, user, words, meta, own if has_own else None)


@dataclasses.dataclass(frozen=True)
class Shard:
    """Name and record lengths of one shard file."""

    name: str
    frames: tuple[int, ...]  # N of each record


@dataclasses.dataclass(frozen=True)
class Header:
    """How the codes of a folder were made and, once it is complete, its shards."""

    codec: str  # SHA-256 of the codec's configuration and weights
    model: str  # name of the codec as the user gave it
    sample_rate: int  # Hz
    frame_rate: float  # Hz
    codebooks: int  # of each speaker
    bins: int  # entries of each codebook
    manifest: str  # SHA-256 of the manifest's items and their words
    shard_size: int  # records in each shard but the last
    shards: tuple[Shard, ...] | None = None  # None: not complete yet
    own: str = ""  # identity of the model that sampled the `own` codes, and the seed; empty: there are none
    version: int = VERSION

    @property
    def conversations(self) -> int:
        """Return the number of records in all shards."""
        return sum(len(shard.frames) for shard in self.shards or ())

    @property
    def frames(self) -> int:
        """Return the number of frames in all shards."""
        return sum(sum(shard.frames) for shard in self.shards or ())

    @property
    def hours(self) -> float:
        """Return the duration of all conversations in hours."""
        return self.frames / self.frame_rate / 3600


def shard_name(index: int, count: int) -> str:
    """Return the file name of a shard."""
    return f"codes-{index:05d}-of-{count:05d}.array_record"


def write_header(folder: Path, header: Header) -> None:
    """Write the header atomically."""
    part = folder / f".{HEADER}.part"
    part.write_text(json.dumps(dataclasses.asdict(header), indent=1) + "\n", "utf-8")
    os.replace(part, folder / HEADER)


def read_header(folder: str | os.PathLike[str], *, complete: bool = True) -> Header:
    """Read the header of a folder of codes.

    Args:
      folder: a folder made by `jomni tokenize`.
      complete: reject a folder whose tokenization has not finished, or that lacks a shard.

    Raises:
      DataError: there is no header, it is damaged or has another version, or the folder is not complete.
    """
    path = Path(folder) / HEADER
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, this jomni reads version {VERSION}")
        if content["shards"] is not None:
            content["shards"] = tuple(Shard(shard["name"], tuple(shard["frames"])) for shard in content["shards"])
        header = Header(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Give a folder made by 'jomni tokenize'."
        ) from error
    if complete and header.shards is None:
        raise DataError(f"{folder}: its tokenization has not finished. Run the same 'jomni tokenize' again.")
    missing = [shard.name for shard in header.shards or () if not (Path(folder) / shard.name).is_file()]
    if complete and missing:
        raise DataError(f"{folder}: lacks {', '.join(missing)}. Copy the files, or run 'jomni tokenize' again.")
    return header
