"""Whisper's log-mel features of 16 kHz audio (openai-whisper, audio.py), as one batched function.

Axes: B batch, T samples, N frames of 10 ms, M mel channels, F frequencies, W windows of 30 s.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jomni.errors import AudioError
from jomni.nn.streaming import precision

SAMPLE_RATE = 16_000  # Hz
WINDOW_SAMPLES = 30 * SAMPLE_RATE  # window of the published encoders
HOP = 160  # samples per frame: 10 ms
N_FFT = 400  # samples under the window: 25 ms
_STRIDE = 80  # greatest common divisor of both: frames are put together from pieces of this length


def log_mel(pcm: Float[Array, "B T"], n_mels: int = 80, samples: int = WINDOW_SAMPLES) -> Float[Array, "B M N"]:
    """Return log-mel features of audio, padded with silence to `samples`.

    Under `jax.jit` values cannot be checked: there the caller checks for NaN.

    Args:
      pcm: mono audio at 16 kHz, in [-1, 1]; at most `samples` long (`windows` cuts longer audio).
      n_mels: mel channels: 80 for models up to large-v2, 128 from large-v3 on.
      samples: padded length, a multiple of 160; 30 s for every published model. The loudest frame of these sets the
        floor of all.

    Returns:
      float32 [B, n_mels, samples / 160]. Rows do not depend on each other (in openai-whisper the floor is set by the
      loudest row of a batch; for one recording the two agree).

    Raises:
      AudioError: the audio is empty, too long, of another shape or kind, or holds NaN or infinity.
    """
    if n_mels < 1 or samples % HOP or samples < N_FFT:
        raise ValueError(f"n_mels = {n_mels} must be positive, samples = {samples} a multiple of {HOP} from {N_FFT} on")
    check_pcm(pcm, samples)
    pad = jnp.pad if isinstance(pcm, jax.Array) else np.pad  # not jitted: one program for all lengths
    whole = pad(pcm, ((0, 0), (0, samples - pcm.shape[1])))
    return _log_mel(jnp.asarray(whole, jnp.float32), n_mels)


def check_pcm(pcm: Float[Array, "B T"], samples: int) -> None:
    """Raise `AudioError` unless `pcm` is a batch of finite audio that is no longer than `samples`."""
    if pcm.ndim != 2 or 0 in pcm.shape:
        raise AudioError(f"audio must have shape [B, T] with T > 0, got {list(pcm.shape)}. One recording: pcm[None].")
    if not jnp.issubdtype(pcm.dtype, jnp.floating):
        raise AudioError(f"audio must be floating point in [-1, 1], got {pcm.dtype}. Divide by its full scale.")
    if pcm.shape[1] > samples:
        raise AudioError(
            f"audio of {pcm.shape[1] / SAMPLE_RATE:g} s is longer than the {samples / SAMPLE_RATE:g} s of a "
            "window (if it is at 16 kHz). Cut it, or take it piece by piece: whisper.windows(pcm)."
        )
    if isinstance(pcm, jax.core.Tracer):
        return
    finite = np.isfinite(np.asarray(pcm)).all(1)
    if not finite.all():
        raise AudioError(f"audio row {int(finite.argmin())} holds NaN or infinity. Repair the recording.")


def windows(pcm: Float[Array, "T"], samples: int = WINDOW_SAMPLES) -> Float[Array, "W S"]:
    """Cut a recording into windows of `samples`, the last padded with silence: a batch for `log_mel`.

    Raises:
      AudioError: it is empty, or not of shape [T].
    """
    if pcm.ndim != 1 or not pcm.size:
        raise AudioError(f"a recording must have shape [T] with T > 0, got {list(pcm.shape)}.")
    return jnp.pad(jnp.asarray(pcm), (0, -len(pcm) % samples)).reshape(-1, samples)


def mel_filters(n_mels: int) -> Float[np.ndarray, "M F"]:
    """Return triangular filters of equal area, evenly spaced on Slaney's mel scale from 0 to 8 kHz, float32.

    The scale is linear up to 1 kHz, 15 mel there, and from there on logarithmic, 27 mel to a factor of 6.4
    (Slaney, Auditory Toolbox, 1998; librosa.filters.mel).
    """
    nyquist = SAMPLE_RATE / 2
    knee_hz, knee_mel, step = 1000.0, 15.0, np.log(6.4) / 27
    top = knee_mel + np.log(nyquist / knee_hz) / step
    mels = np.linspace(0, top, n_mels + 2)
    edges = np.where(mels < knee_mel, mels * knee_hz / knee_mel, knee_hz * np.exp(step * (mels - knee_mel)))
    low, centre, high = (edges[i : i + n_mels, None] for i in range(3))
    frequencies = np.linspace(0, nyquist, N_FFT // 2 + 1)
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return (np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=1)
def _log_mel(pcm: Float[Array, "B T"], n_mels: int) -> Float[Array, "B M N"]:
    centred = jnp.pad(pcm, ((0, 0), (N_FFT // 2, N_FFT // 2)), mode="reflect")
    frames = pcm.shape[1] // HOP  # without the additional frame that the padding allows
    pieces = centred.reshape(len(pcm), -1, _STRIDE)
    hop = HOP // _STRIDE
    taken = [pieces[:, i : i + frames * hop : hop] for i in range(N_FFT // _STRIDE)]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)  # periodic
    spectrum = jnp.fft.rfft(jnp.concatenate(taken, -1) * hann.astype(np.float32))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    mel = jnp.einsum("mf,bnf->bmn", mel_filters(n_mels), power, precision=precision(jnp.float32))
    log = jnp.log10(jnp.maximum(mel, 1e-10))
    log = jnp.maximum(log, log.max((1, 2), keepdims=True) - 8)
    return (log + 4) / 4
