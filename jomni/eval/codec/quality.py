"""Measures of the similarity of decoded audio and the original. JAX is not imported, so workers start quickly."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np

from jomni import audio
from jomni.extras import missing

SPEECH_RATE = 16_000
"""Hz, the rate of wide-band PESQ."""

METRICS = {
    "pesq": "PESQ, wide band (ITU-T P.862.2), 1.04 to 4.64",
    "stoi": "STOI (Taal 2011), 0 to 1",
    "si_snr": "SI-SNR, dB",
    "mel": "mel distance: mean absolute difference of log-mel spectra (natural logarithm)",
}


@dataclasses.dataclass(frozen=True)
class Quality:
    """Measures of one recording; NaN if one is not defined (too short, silent) or its package is not installed."""

    pesq: float
    stoi: float
    si_snr: float
    mel: float


def si_snr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the scale-invariant signal-to-noise ratio (Le Roux 2019) of two signals [T] without their means, dB."""
    reference, estimate = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (reference, estimate))
    energy = float(reference @ reference)
    if energy == 0 or not estimate.any():
        return math.nan
    target = (float(estimate @ reference) / energy) * reference
    noise = float(np.square(estimate - target).sum())
    return 10 * math.log10(max(float(target @ target), 1e-12) / max(noise, 1e-12))


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return the mean absolute difference of log-mel spectra.

    80 bands, windows of 1024 samples, hops of 256 samples, natural logarithm, floor 1e-5.
    """
    import librosa

    def log_mel(wave: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=np.pad(wave, (0, max(1024 - len(wave), 0))),
            sr=sample_rate,
            n_fft=1024,
            hop_length=256,
            n_mels=80,
            power=1,
        )
        return np.log(np.maximum(mel, 1e-5))

    return float(np.abs(log_mel(reference) - log_mel(estimate)).mean())


def compare(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Quality:
    """Return all measures of one recording, float32 [T] each."""
    return Quality(
        _pesq(reference, estimate, sample_rate), _stoi(reference, estimate, sample_rate),
        si_snr(reference, estimate), mel_distance(reference, estimate, sample_rate),
    )  # fmt: skip


def _pesq(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    if missing("pesq") or not reference.any() or not estimate.any():
        return math.nan
    import pesq

    one, other = (audio.resample(x, sample_rate, SPEECH_RATE) for x in (reference, estimate))
    try:
        return float(pesq.pesq(SPEECH_RATE, one, other, "wb"))
    except pesq.PesqError:  # no speech found, or less than 0.25 s
        return math.nan


def _stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    if missing("pystoi"):
        return math.nan
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pystoi warns if too little speech is left, and returns 1e-5
        try:
            return float(pystoi.stoi(reference, estimate, sample_rate))
        except (RuntimeWarning, UserWarning, ValueError):
            return math.nan


def compare_one(work: tuple[np.ndarray, np.ndarray, int]) -> Quality:
    """Call `compare` with the elements of a tuple, for pools of processes."""
    return compare(*work)
