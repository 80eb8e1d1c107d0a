"""Encoding and decoding of recordings of different lengths in batches, with one compiled step.

Axes: B batch, N codes of a codebook, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jomni.models.codec import Codec

Codes = tuple[Int[np.ndarray, "N"], ...]
"""Codes of a recording, one array per codebook."""
Wave = Float[np.ndarray, "S"]

BLOCK = 25
"""Frames per step of a codec without delay."""


def bitrate(codec: Codec, codebooks: int) -> float:
    """Return the bit/s of the first codebooks, each code taken as log2(codebook_size) bits."""
    return sum(codec.codebook_rates[:codebooks]) * math.log2(codec.codebook_size)


class Coder:
    """Encodes and decodes recordings in steps. The results equal those of whole recordings.

    Args:
      codec: the codec.
      params: its parameters, as loaded.
    """

    def __init__(self, codec: Codec, params: Any) -> None:
        self.codec, self._params = codec, jax.device_put(codec.prepare(params))

    def encode(self, waves: Sequence[Wave], codebooks: int, batch: int) -> list[Codes]:
        """Return the codes of recordings, `batch` of them at once. Zeros complete the last frame."""
        codec = self.codec.with_codebooks(codebooks)
        return [c for n in range(0, len(waves), batch) for c in self._encode(codec, waves[n : n + batch], batch)]

    def _encode(self, codec: Codec, waves: Sequence[Wave], batch: int) -> list[Codes]:
        size = codec.frame_size
        streams = _Streams(codec, [-(-len(wave) // size) for wave in waves], batch)
        pcm = np.zeros((batch, 1, streams.padded * size), np.float32)
        for row, wave in zip(pcm, waves, strict=False):
            row[0, : len(wave)] = wave
        state, found = codec.init_encode_state(batch, streams.block), list[Codes]()
        for frame, active in streams:
            block = jnp.asarray(pcm[..., frame * size : (frame + streams.block) * size])
            state, codes = codec.encode_step(self._params, state, block, active)
            found.append(jax.device_get(codec.split_codebooks(codes)))
        last = codec.encode_flush(self._params, state, streams.any)[1]
        found.append(jax.device_get(codec.split_codebooks(last)))
        delay, tokens = codec.encode_delay, [book.shape[-1] // streams.block for book in found[0]]
        return [
            tuple(
                streams.row([step[k] for step in found], b)[delay * n : (delay + streams.frames[b]) * n]
                for k, n in enumerate(tokens)
            )
            for b in range(len(waves))
        ]

    def decode(self, codes: Sequence[Codes], batch: int) -> list[Wave]:
        """Return whole frames of audio, float32, from as many codebooks as are given, `batch` recordings at once."""
        codec = self.codec.with_codebooks(len(codes[0]))
        return [w for n in range(0, len(codes), batch) for w in self._decode(codec, codes[n : n + batch], batch)]

    def _decode(self, codec: Codec, some: Sequence[Codes], batch: int) -> list[Wave]:
        tokens = [round(rate / codec.frame_rate) for rate in codec.codebook_rates[: len(some[0])]]
        streams = _Streams(codec, [len(codes[0]) // tokens[0] for codes in some], batch)
        books = [np.zeros((batch, streams.padded * n), np.int32) for n in tokens]
        for row, codes in enumerate(some):
            for book, held in zip(books, codes, strict=True):
                book[row, : len(held)] = held
        state, found = codec.init_decode_state(batch, streams.block), list[np.ndarray]()
        for frame, active in streams:
            block = [
                jnp.asarray(book[:, frame * n : (frame + streams.block) * n])
                for book, n in zip(books, tokens, strict=True)
            ]
            state, pcm = codec.decode_step(self._params, state, codec.join_codebooks(block), active)
            found.append(np.asarray(pcm[:, 0], np.float32))
        found.append(np.asarray(codec.decode_flush(self._params, state, streams.any)[1][:, 0], np.float32))
        delay, size = codec.decode_delay, codec.frame_size
        return [streams.row(found, b)[delay : delay + streams.frames[b] * size] for b in range(len(some))]


class _Streams:
    """The blocks of a batch of streams of different lengths. Iterating yields each block's first frame and active rows.

    A codec with look-ahead must end each stream exactly, so its blocks have the least size. In a codec without it, the
    padding after a recording does not influence the frames before.
    """

    def __init__(self, codec: Codec, frames: Sequence[int], batch: int) -> None:
        multiple = codec.frame_multiple
        self.block = multiple if codec.encode_delay or codec.decode_delay else BLOCK
        self.frames = [-(-n // multiple) * multiple for n in frames]  # of each row
        self._lengths = np.array(self.frames + [0] * (batch - len(frames)))
        self.padded = -(-max(self.frames) // self.block) * self.block
        self.any = jnp.asarray(self._lengths > 0)  # rows that have a recording

    def __iter__(self) -> Any:
        for frame in range(0, self.padded, self.block):
            yield frame, jnp.asarray(frame < self._lengths)

    def row(self, steps: Sequence[np.ndarray], b: int) -> np.ndarray:
        """Return the outputs of the steps in which row b was active, and of the flush, which is the last of `steps`."""
        active = -(-self.frames[b] // self.block)
        return np.concatenate([*(step[b] for step in steps[:active]), steps[-1][b]])
