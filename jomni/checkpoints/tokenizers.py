"""The text tokenizer of a Hugging Face Moshi folder, a tokenizer.json, as the sentencepiece model that it came from.

Transformers' `MoshiConverter` turns a sentencepiece unigram model with byte fallback into a tokenizer.json: pieces,
their scores and the normalisation table go over as they are, so they can be taken back. The few fields of
sentencepiece's protobuf (sentencepiece_model.proto) that matter are written here by hand.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jomni.errors import WeightsError
from jomni.tensors.source import read_json

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # ModelProto.SentencePiece.Type
_UNIGRAM = 1  # TrainerSpec.ModelType
_SPACE = "\u2581"


def read_tokenizer_json(path: Path) -> bytes:
    """Return a sentencepiece model file with the pieces, ids, scores and normalisation of a tokenizer.json.

    Raises:
      WeightsError: it is not a tokenizer of the kind that Moshi has.
    """
    raw = read_json(path)
    try:
        return _convert(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path}: is not a sentencepiece unigram tokenizer as Moshi has one ({error}). "
            "Put the sentencepiece file beside it as tokenizer.model."
        ) from None


def _convert(raw: dict[str, Any]) -> bytes:
    model = raw["model"]
    if model["type"] != "Unigram":
        raise ValueError(f"its model is {model['type']!r}")
    special = {token["id"] for token in raw["added_tokens"] if token["special"]}
    beyond = [token["content"] for token in raw["added_tokens"] if token["id"] >= len(model["vocab"])]
    if beyond:
        raise ValueError(f"tokens were added to it: {beyond}")
    ids: dict[str, int] = {}
    out = b""
    for index, (piece, score) in enumerate(model["vocab"]):
        kind = _NORMAL
        if index == model["unk_id"]:
            kind = _UNKNOWN
        elif index in special:
            kind = _CONTROL
            ids[piece] = index
        elif model.get("byte_fallback") and re.fullmatch("<0x[0-9A-F]{2}>", piece):
            kind = _BYTE
        out += _message(1, _message(1, piece.encode()) + _float(2, score) + _varint(3, kind))
    trainer = _varint(3, _UNIGRAM) + _varint(4, len(model["vocab"])) + _varint(35, bool(model.get("byte_fallback")))
    trainer += _varint(40, model["unk_id"])
    for field, name in ((41, "<s>"), (42, "</s>"), (43, "<pad>")):
        trainer += _varint(field, ids.get(name, -1))
    charsmap = b"".join(_charsmaps(raw["normalizer"]))
    normalizer = _message(2, charsmap) + _varint(3, _adds_prefix(raw["pre_tokenizer"])) + _varint(4, 0) + _varint(5, 1)
    return out + _message(2, trainer) + _message(3, normalizer)


def _charsmaps(normalizer: dict[str, Any]) -> Iterator[bytes]:
    """Yield sentencepiece's normalisation table, if there is one. Replacement of spaces needs none."""
    kind = normalizer["type"]
    if kind == "Sequence":
        for part in normalizer["normalizers"]:
            yield from _charsmaps(part)
    elif kind == "Precompiled":
        yield base64.b64decode(normalizer["precompiled_charsmap"])
    elif kind != "Replace" or (normalizer["pattern"], normalizer["content"]) != ({"String": " "}, _SPACE):
        raise ValueError(f"its normalizer is {normalizer}")


def _adds_prefix(pre_tokenizer: dict[str, Any]) -> bool:
    if pre_tokenizer["type"] != "Metaspace" or pre_tokenizer["replacement"] != _SPACE:
        raise ValueError(f"its pre_tokenizer is {pre_tokenizer}")
    return pre_tokenizer["prepend_scheme"] != "never"


def _varint(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value & (1 << 64) - 1)


def _float(field: int, value: float) -> bytes:
    return _number(field << 3 | 5) + struct.pack("<f", value)


def _message(field: int, content: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """Return an integer in protobuf's variable-length encoding."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
