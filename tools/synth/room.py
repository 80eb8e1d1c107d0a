"""Acoustics between speaker and microphone: level, reverberation, noise."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

from .voices import RATE

Rng = np.random.Generator


def level(pcm: np.ndarray, decibel: float) -> np.ndarray:
    """Return speech with an RMS of `decibel` (dB of full scale), measured where it has sound; peaks stay below 1."""
    frame = RATE // 50
    count = max(len(pcm) // frame, 1)
    power = np.square(pcm[: count * frame]).reshape(count, -1).mean(1)
    rms = np.sqrt(power[power >= power.max() * 1e-3].mean() + 1e-12)
    gain = 10 ** (decibel / 20) / rms
    return (pcm * min(gain, 0.97 / (np.abs(pcm).max() + 1e-9))).astype(np.float32)


def reverberate(rng: Rng, pcm: np.ndarray) -> np.ndarray:
    """Return the audio in a small room (exponentially decaying noise after the direct sound), with the same length."""
    decay = rng.uniform(0.08, 0.35)
    length = int(decay * RATE)
    time = np.arange(length) / RATE
    tail = rng.standard_normal(length) * np.exp(-6.9 * time / decay)
    tail[: int(0.002 * RATE)] = 0
    ratio = 10 ** (-rng.uniform(3, 15) / 20)
    response = tail / np.sqrt(np.square(tail).sum() + 1e-12) * ratio
    response[0] = 1.0
    return fftconvolve(pcm, response.astype(np.float32))[: len(pcm)].astype(np.float32)


def white(rng: Rng, count: int) -> np.ndarray:
    return rng.standard_normal(count, dtype=np.float32)


def pink(rng: Rng, count: int) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 20.0)), count).astype(np.float32)


def hum(rng: Rng, count: int) -> np.ndarray:
    base, time = (50.0, 60.0)[int(rng.integers(2))], np.arange(count) / RATE
    waves = [rng.uniform(0, 1) / k * np.sin(2 * np.pi * (base * k * time + rng.uniform())) for k in (1, 2, 3, 4, 6)]
    return (np.sum(waves, 0) + 0.05 * rng.standard_normal(count)).astype(np.float32)


def noise(rng: Rng, count: int, babble: np.ndarray | None) -> np.ndarray:
    """Return random noise of RMS 1: white, pink, hum or, if speech of others is given, babble."""
    kind = int(rng.integers(4 if babble is not None else 3))
    if kind == 3 and babble is not None:
        made = np.zeros(count, np.float32)
        for _ in range(int(rng.integers(2, 5))):
            start = int(rng.integers(len(babble)))
            made += np.resize(np.roll(babble, -start), count) * float(rng.uniform(0.4, 1))
    else:
        made = (white, pink, hum)[min(kind, 2)](rng, count)
    return (made / (np.sqrt(np.square(made).mean()) + 1e-9)).astype(np.float32)


def add_noise(rng: Rng, pcm: np.ndarray, speech_db: float, babble: np.ndarray | None = None,
              snr: tuple[float, float] = (15, 45)) -> np.ndarray:  # fmt: skip
    """Return audio with one kind of noise.

    Args:
      speech_db: RMS of the speech in it, dB below full scale.
      snr: range of the ratio, in dB.
    """
    gain = 10 ** ((speech_db - rng.uniform(*snr)) / 20)
    return (pcm + gain * noise(rng, len(pcm), babble)).astype(np.float32)


def to_int16(pcm: np.ndarray) -> np.ndarray:
    """Return int16 samples; values beyond full scale are clipped, as by a microphone."""
    return (np.clip(pcm, -1.0, 1.0) * 32767.0).round().astype(np.int16)
