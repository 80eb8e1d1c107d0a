"""The bundled model in jomni, as Kyutai's code runs it: greedy, in their ring."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import jomni


def load() -> tuple[jomni.Checkpoint, jomni.Duplex]:
    """In float32."""
    checkpoint = jomni.load("nano", dtype="float32")
    return checkpoint, jomni.Duplex.from_checkpoint(checkpoint)


def converse(checkpoint: jomni.Checkpoint, duplex: jomni.Duplex, question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Question float32 [1, 1, T], whole frames -> text int32 [1, N], voice float32 [1, 1, N * frame_size]."""
    params = duplex.prepare(checkpoint.params)
    state = duplex.init_state(1, ring="kyutai")
    controls = duplex.controls(1, temperature=0.0, text_temperature=0.0)
    texts, voices = [], []
    for frame in np.split(question, question.shape[-1] // duplex.frame_size, -1):
        state, out = duplex.step(params, state, jnp.asarray(frame), controls)
        if np.asarray(out.valid).all():
            texts.append(np.asarray(out.text))
            voices.append(np.asarray(out.pcm))
    return np.stack(texts, 1), np.concatenate(voices, -1)
