"""Decode Mini-Omni's audio streams to audio: delays are removed, and frames are decoded as soon as they are complete.

Audio stream i is i + 1 steps behind the text, so the token of the last stream completes a frame. Special tokens are no
codes. A frame with an end token ends the answer's audio. A frame with padding or another special token is silence,
before and after which SNAC's stream ends and restarts. The frames between equal the codec's whole decode.

Axes: B slot, A audio streams, S samples.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jomni.errors import ConfigError
from jomni.generation.sampling import batch_seeds
from jomni.models.mini_omni import Vocabulary
from jomni.models.mini_omni.streams import tree_order
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Snac, decode_flush, decode_step
from jomni.nn.lookahead import fold_weight_norm
from jomni.nn.streaming import reset

Frame = Int[np.ndarray, "A"]
"""The codes of a SNAC frame in the order of the audio streams."""
SILENCE: Frame = np.zeros(0, np.int32)
"""A frame of silence."""


class FrameStream:
    """Removes the delays of one answer's streams. `given` are steps whose frames were returned before."""

    def __init__(self, vocabulary: Vocabulary, given: Sequence[Int[np.ndarray, "A+1"]] = ()) -> None:
        self.vocabulary = vocabulary
        self.steps = 0
        self.ended = False
        self._last: collections.deque[np.ndarray] = collections.deque(maxlen=vocabulary.streams)
        for column in given:
            self.push(column)

    def push(self, column: Int[np.ndarray, "A+1"]) -> Frame | None:
        """Add a step and return the frame that it completes: codes, `SILENCE`, or None."""
        v = self.vocabulary
        self.steps += 1
        self._last.append(column)
        if self.steps <= v.streams or self.ended:
            return None
        frame = np.array([held[i] for i, held in enumerate(self._last)], np.int32)
        self.ended = bool((frame == v.end_of_audio).any())
        if self.ended:
            return None
        return SILENCE if (frame >= v.audio_size).any() else frame


@dataclasses.dataclass
class _Run:
    """Consecutive frames that SNAC decodes as one sequence."""

    going: bool = False
    late: int = 0  # samples before its first one, still to be dropped


class OmniVoice:
    """Streaming decode of the answers in slots.

    Args:
      config: the codec's.
      params: its parameters, as loaded.
      vocabulary: Mini-Omni's.
      slots: answers.
      seed: of the codec's noise, per slot as in sampling; None: no noise.

    Raises:
      ConfigError: the codec's frames do not fit the audio streams.
    """

    def __init__(
        self, config: SnacConfig, params: Any, vocabulary: Vocabulary, slots: int = 1,
        seed: int | Sequence[int] | None = 0,
    ) -> None:  # fmt: skip
        if sum(config.tokens_per_frame) != vocabulary.streams or config.codebook_size != vocabulary.audio_size:
            raise ConfigError(
                f"the codec has {sum(config.tokens_per_frame)} tokens of {config.codebook_size} in a frame, the model "
                f"{vocabulary.streams} audio streams of {vocabulary.audio_size}. Give the codec it was trained with."
            )
        if config.frame_multiple != 1:
            raise ConfigError(
                f"the codec decodes {config.frame_multiple} frames at a time, because it attends within windows. Give "
                "one without, such as SNAC's 24 kHz model."
            )
        self.config = config
        self._snac, self._params = Snac(config), fold_weight_norm(params)
        self._order = tree_order(config.tokens_per_frame)
        self._vocabulary = vocabulary
        self._noise = None if seed is None else jax.vmap(jax.random.key)(batch_seeds(seed, slots))
        self._state = self._snac.init_decode_state(slots, params["quantizer"]["quantizers_0"]["codebook"].dtype)
        self._frames = [FrameStream(vocabulary) for _ in range(slots)]
        self._runs = [_Run() for _ in range(slots)]

    def begin(self, slot: int, given: Sequence[Int[np.ndarray, "A+1"]] = ()) -> None:
        """Start a new answer in a slot, or continue one after the steps `given`."""
        self._frames[slot] = FrameStream(self._vocabulary, given)
        self._runs[slot] = _Run()
        self._state = reset(self._state, jnp.arange(len(self._runs)) == slot)

    def push(
        self, columns: Sequence[Int[np.ndarray, "A+1"] | None]
    ) -> tuple[list[Frame | None], list[Float[np.ndarray, "S"]]]:
        """Add a step; return the frames that it completes and the final audio (`config.look_ahead` samples late)."""
        frames = [
            None if column is None else held.push(column) for held, column in zip(self._frames, columns, strict=True)
        ]
        ended = [column is not None and held.ended for held, column in zip(self._frames, columns, strict=True)]
        silent = [frame is not None and not len(frame) for frame in frames]
        pcm = self._flush([a or b for a, b in zip(ended, silent, strict=True)])
        for slot in np.flatnonzero(silent).tolist():
            pcm[slot] = np.concatenate([pcm[slot], np.zeros(self.config.frame_size, np.float32)])
        voiced = np.array([frame is not None and len(frame) > 0 for frame in frames])
        if voiced.any():
            codes = np.zeros((len(frames), self._vocabulary.streams), np.int32)
            for slot in np.flatnonzero(voiced).tolist():
                codes[slot] = np.asarray(frames[slot])
                if not self._runs[slot].going:
                    self._runs[slot] = _Run(True, self.config.look_ahead)
            by_codebook = tuple(jnp.asarray(codes[:, places]) for places in self._order)
            self._state, out = decode_step(
                self._snac, self._params, self._state, by_codebook, jnp.array(voiced), self._noise
            )
            for slot, row in self._certain(out, voiced):
                pcm[slot] = np.concatenate([pcm[slot], row])
        return frames, pcm

    def end(self, slots: Sequence[bool]) -> list[Float[np.ndarray, "S"]]:
        """Return the outstanding audio of the answers that are over."""
        return self._flush(slots)

    def _flush(self, slots: Sequence[bool]) -> list[np.ndarray]:
        pcm = [np.zeros(0, np.float32) for _ in self._runs]
        going = np.array([run.going and asked for run, asked in zip(self._runs, slots, strict=True)])
        if going.any():
            self._state, out = decode_flush(self._snac, self._params, self._state, jnp.array(going), self._noise)
            for slot, row in self._certain(out, going):
                pcm[slot] = row
                self._runs[slot] = _Run()
        return pcm

    def _certain(self, out: Any, slots: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Return the codec's output for these slots, without what precedes their first sample."""
        rows = np.array(out[:, 0], np.float32)
        found = []
        for slot in np.flatnonzero(slots).tolist():
            run, row = self._runs[slot], rows[slot]
            skipped = min(run.late, len(row))
            run.late -= skipped
            found.append((slot, row[skipped:]))
        return found
