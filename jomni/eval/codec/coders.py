"""Codecs as the measurements use them: recordings of all lengths to codes and back, many at once, compiled once.

Axes: K codebooks, N codes of one of them, S samples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jomni.models.mimi import model as mimi
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.model import Mimi
from jomni.models.mimi.quantizer import fold_codebooks
from jomni.models.snac import model as snac
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Snac
from jomni.nn.lookahead import fold_weight_norm

Codes = tuple[Int[np.ndarray, "N"], ...]
"""Codes of a recording, for each codebook."""
Wave = Float[np.ndarray, "S"]

BLOCK = 25
"""Frames of one of Mimi's steps."""


class Coder(Protocol):
    """A codec with its weights."""

    sample_rate: int  # Hz
    entries: int  # of each codebook
    rates: tuple[float, ...]  # codes a second of each codebook that there is
    fewest: int  # codebooks that it decodes from

    def encode(self, waves: Sequence[Wave], codebooks: int, slots: int) -> list[Codes]:
        """Codes of recordings, `slots` of them at once; silence fills up the last frame."""
        ...

    def decode(self, codes: Sequence[Codes], slots: int) -> list[Wave]:
        """Whole frames of audio, float32, from as many codebooks as are given."""
        ...


def bitrate(coder: Coder, codebooks: int) -> float:
    """bit/s of so many codebooks, each code taken as log2(entries) bits."""
    return sum(coder.rates[:codebooks]) * math.log2(coder.entries)


class MimiCoder:
    """Mimi, block by block."""

    def __init__(self, config: MimiConfig, params: Any) -> None:
        self.config, self._params = config, jax.device_put(fold_codebooks(params))
        self.sample_rate, self.entries = config.sample_rate, config.quantizer.bins
        self.rates = (config.frame_rate,) * config.quantizer.n_q
        self.fewest = config.quantizer.n_q_semantic

    def encode(self, waves: Sequence[Wave], codebooks: int, slots: int) -> list[Codes]:
        encode = functools.partial(self._encode, Mimi(self.config, codebooks), slots)
        return [codes for first in range(0, len(waves), slots) for codes in encode(waves[first : first + slots])]

    def _encode(self, codec: Mimi, slots: int, waves: Sequence[Wave]) -> list[Codes]:
        size = self.config.frame_size
        counts = [-(-len(wave) // size) for wave in waves]
        pcm = np.zeros((slots, 1, -(-max(counts) // BLOCK) * BLOCK * size), np.float32)
        for row, wave in zip(pcm, waves, strict=False):
            row[0, : len(wave)] = wave
        state, found = codec.init_encode_state(slots, frames=BLOCK), []
        for first in range(0, pcm.shape[-1], BLOCK * size):
            block = jnp.asarray(pcm[..., first : first + BLOCK * size])
            state, codes = mimi.encode_step(codec, self._params, state, block)
            found.append(np.asarray(codes))
        joined = np.concatenate(found, axis=-1)
        return [tuple(row[:, :count]) for row, count in zip(joined, counts, strict=False)]

    def decode(self, codes: Sequence[Codes], slots: int) -> list[Wave]:
        decode = functools.partial(self._decode, Mimi(self.config, len(codes[0])), slots)
        return [wave for first in range(0, len(codes), slots) for wave in decode(codes[first : first + slots])]

    def _decode(self, codec: Mimi, slots: int, some: Sequence[Codes]) -> list[Wave]:
        counts = [len(codes[0]) for codes in some]
        padded = np.zeros((slots, codec.num_codebooks, -(-max(counts) // BLOCK) * BLOCK), np.int32)
        for row, codes, count in zip(padded, some, counts, strict=False):
            row[:, :count] = codes
        state, found = codec.init_decode_state(slots, frames=BLOCK), []
        for first in range(0, padded.shape[-1], BLOCK):
            block = jnp.asarray(padded[..., first : first + BLOCK])
            state, pcm = mimi.decode_step(codec, self._params, state, block)
            found.append(np.asarray(pcm[:, 0], np.float32))
        joined = np.concatenate(found, axis=-1)
        return [row[: count * self.config.frame_size] for row, count in zip(joined, counts, strict=False)]


class SnacCoder:
    """SNAC, in the shortest steps that it takes: each stream ends where its recording does, as the whole form does.

    With `noise` the decoder adds that of key 0, as `jomni decode` does; without, none.
    """

    def __init__(self, config: SnacConfig, params: Any, noise: bool = False) -> None:
        self.config, self._params, self._noise = config, jax.device_put(fold_weight_norm(params)), noise
        self._dtype = params["quantizer"]["quantizers_0"]["codebook"].dtype
        self.sample_rate, self.entries = config.sampling_rate, config.codebook_size
        self.rates = tuple(config.frame_rate * n for n in config.tokens_per_frame)
        self.fewest = config.num_codebooks  # all of them: what a finer one says is meant beside the coarser ones
        self._codec = Snac(config)

    def encode(self, waves: Sequence[Wave], codebooks: int, slots: int) -> list[Codes]:
        assert codebooks == self.fewest
        return [codes for n in range(0, len(waves), slots) for codes in self._encode(slots, waves[n : n + slots])]

    def _encode(self, slots: int, waves: Sequence[Wave]) -> list[Codes]:
        c, step = self.config, self.config.frame_multiple
        counts = [c.whole_frames(-(-len(wave) // c.frame_size)) for wave in waves]
        lengths = np.array(counts + [0] * (slots - len(counts)))
        pcm = np.zeros((slots, 1, lengths.max() * c.frame_size), np.float32)
        for row, wave in zip(pcm, waves, strict=False):
            row[0, : len(wave)] = wave
        state, found = self._codec.init_encode_state(slots, self._dtype), list[Any]()
        for frame in range(0, lengths.max(), step):
            block = jnp.asarray(pcm[..., frame * c.frame_size : (frame + step) * c.frame_size], self._dtype)
            state, codes = snac.encode_step(self._codec, self._params, state, block, jnp.asarray(frame < lengths))
            found.append(jax.device_get(codes))
        last = jax.device_get(snac.encode_flush(self._codec, self._params, state, jnp.asarray(lengths > 0))[1])

        def of(slot: int, book: int, tokens: int) -> np.ndarray:
            pieces = [codes[book][slot] for codes in found[: counts[slot] // step]]
            return np.concatenate([*pieces, last[book][slot]])[c.encode_delay * tokens :]

        return [tuple(of(b, k, n) for k, n in enumerate(c.tokens_per_frame)) for b in range(len(waves))]

    def decode(self, codes: Sequence[Codes], slots: int) -> list[Wave]:
        return [wave for n in range(0, len(codes), slots) for wave in self._decode(slots, codes[n : n + slots])]

    def _decode(self, slots: int, some: Sequence[Codes]) -> list[Wave]:
        c, step = self.config, self.config.frame_multiple
        lengths = np.array([len(codes[0]) // c.tokens_per_frame[0] for codes in some] + [0] * (slots - len(some)))
        books = [np.zeros((slots, lengths.max() * n), np.int32) for n in c.tokens_per_frame]
        for slot, codes in enumerate(some):
            for book, held in zip(books, codes, strict=True):
                book[slot, : len(held)] = held
        noise = jnp.broadcast_to(jax.random.split(jax.random.key(0), 1), slots) if self._noise else None
        state, pieces = self._codec.init_decode_state(slots, self._dtype), list[np.ndarray]()
        for frame in range(0, lengths.max(), step):
            block = tuple(
                jnp.asarray(book[:, frame * n : (frame + step) * n])
                for book, n in zip(books, c.tokens_per_frame, strict=True)
            )
            active = jnp.asarray(frame < lengths)
            state, pcm = snac.decode_step(self._codec, self._params, state, block, noise, active)
            pieces.append(np.array(pcm[:, 0], np.float32))
        last = snac.decode_flush(self._codec, self._params, state, noise, jnp.asarray(lengths > 0))[1]
        ends = np.array(last[:, 0], np.float32)
        return [
            np.concatenate([*(piece[b] for piece in pieces[: lengths[b] // step]), ends[b]])[c.look_ahead :]
            for b in range(len(some))
        ]
