"""Mimi beside Kyutai's own, both reading the same seeded files in the published layout."""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest

import jomni
from jomni.models.mimi.config import ACTIVATIONS
from jomni.models.mimi.model import Mimi
from tests.parity import jomni_side
from tests.parity.compare import audio_distance, audio_error, differing_codes
from tools.goldens import kyutai_runs, layout
from tools.goldens.kyutai_cases import MIMI

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("one_thread_and_float32")]
torch = pytest.importorskip("torch")
pytest.importorskip("moshi")

from tools.goldens import kyutai  # noqa: E402

SEEDS, FRAMES = range(8), 300
# Every seed of the case that is Kyutai's in small; of the others one.
PAIRS = [("base", seed) for seed in SEEDS] + [(case, 1) for case in MIMI if case != "base"]
AUDIO = 1e-4  # of the original's RMS


@functools.cache
def files(case: str, seed: int) -> Path:
    folder = Path(tempfile.mkdtemp())
    layout.write_mimi(folder, MIMI[case], kyutai.mimi_manifest(MIMI[case]), seed)
    return folder


def both(case: str, seed: int, num_codebooks: int | None = None):
    """The original, jomni's codec and its parameters."""
    number = num_codebooks or MIMI[case]["quantizer"]["n_q"]
    return kyutai.load_mimi(files(case, seed), number), *jomni_side.load_mimi(files(case, seed), number)


@functools.cache
def whole(case: str, seed: int):
    """The original on three waveforms of `FRAMES` frames: pcm, codes, near ties, decoded pcm."""
    pcm = kyutai_runs.mimi_audio(case, seed, FRAMES)
    model = kyutai.load_mimi(files(case, seed), MIMI[case]["quantizer"]["n_q"])
    codes, gaps = kyutai.encode(model, pcm)
    return pcm, codes, gaps < kyutai_runs.TIE, kyutai.decode(model, codes)


def semantic(mimi: Mimi) -> int:
    return mimi.config.quantizer.n_q_semantic


def told(case: str, codes: np.ndarray, ties: np.ndarray, differing: int, error: float) -> str:
    different = min(len(np.unique(codes[:, k])) for k in range(codes.shape[1]))
    return (
        f"mimi {case}: {differing} of {codes.size} codes differ ({ties.sum()} near ties), audio {error:.1e} of RMS, "
        f"{different} or more different codes in a codebook"
    )


@pytest.mark.parametrize("case", MIMI)
def test_whole_waveforms(case, say):
    for seed in SEEDS:
        pcm, theirs, ties, voice = whole(case, seed)
        _, mimi, params = both(case, seed)
        differing = differing_codes(np.asarray(jomni.encode(mimi, params, pcm)), theirs, ties, semantic(mimi))
        error = audio_error(np.asarray(jomni.decode(mimi, params, theirs)), voice)
        say(told(f"{case} whole, seed {seed}", theirs, ties, differing, error))
        assert error < AUDIO
        assert np.mean([len(np.unique(theirs[:, k])) for k in range(theirs.shape[1])]) > 15


@pytest.mark.parametrize("case", ("base", "replicate"))
def test_a_trailing_partial_frame_is_completed_with_zeros(case):
    model, mimi, params = both(case, 0)
    for extra in (1, model.frame_size // 2, model.frame_size - 1):
        pcm = kyutai_runs.mimi_audio(case, 0, 12, extra)
        theirs, gaps = kyutai.encode(model, pcm)
        assert theirs.shape[-1] == 13
        differing_codes(np.asarray(jomni.encode(mimi, params, pcm)), theirs, gaps < kyutai_runs.TIE, semantic(mimi))


@pytest.mark.parametrize(("case", "seed"), PAIRS)
def test_streaming_in_the_ring_of_the_original(case, seed, say):
    model, mimi, params = both(case, seed)
    pcm, codes, _, voice = whole(case, seed)
    theirs, gaps = kyutai.encode_stream(model, pcm)
    ours = jomni_side.encode_stream(mimi, params, pcm, ring="kyutai")
    differing = differing_codes(ours, theirs, gaps < kyutai_runs.TIE, semantic(mimi))
    their_voice = kyutai.decode_stream(model, codes)
    error = audio_error(jomni_side.decode_stream(mimi, params, codes, ring="kyutai"), their_voice)
    say(told(f"{case} streaming, seed {seed}", theirs, gaps < kyutai_runs.TIE, differing, error))
    assert error < AUDIO
    if mimi.config.resample_stride > 1:  # else the original's ring loses nothing
        assert audio_distance(their_voice, voice) > AUDIO


@pytest.mark.parametrize(("case", "seed"), PAIRS)
def test_default_streaming_equals_the_whole_of_the_original(case, seed, say):
    _, mimi, params = both(case, seed)
    pcm, theirs, ties, voice = whole(case, seed)
    block = (1, 3)[seed % 2]
    ours = jomni_side.encode_stream(mimi, params, pcm, block=block)
    differing = differing_codes(ours, theirs, ties, semantic(mimi))
    error = audio_error(jomni_side.decode_stream(mimi, params, theirs, block=block), voice)
    say(told(f"{case} in blocks of {block}, seed {seed}", theirs, ties, differing, error))
    assert error < AUDIO


@pytest.mark.parametrize(("case", "block"), [*((case, 1) for case in MIMI), ("base", 2)])
def test_slots_that_pause_and_start_anew(case, block, say):
    model, mimi, params = both(case, 3)
    calls = 90 // block
    pcm = kyutai_runs.mimi_audio(case, 3, 90)
    active, reset = kyutai_runs.mimi_control(3, calls)
    control = {"block": block, "active": active, "reset": reset}
    theirs, gaps = kyutai.encode_stream(model, pcm, **control)
    heard = np.repeat(active, block, 0).T[:, None]
    ours = jomni_side.encode_stream(mimi, params, pcm, ring="kyutai", **control)
    ties = gaps < kyutai_runs.TIE
    differing = differing_codes(np.where(heard, ours, 0), np.where(heard, theirs, 0), ties, semantic(mimi))
    voice = kyutai.decode_stream(model, theirs, **control)
    ours_voice = jomni_side.decode_stream(mimi, params, theirs, ring="kyutai", **control)
    audible = np.repeat(heard, model.frame_size, -1)
    error = audio_error(np.where(audible, ours_voice, 0), np.where(audible, voice, 0))
    say(told(f"{case} with pauses and resets, blocks of {block}", theirs, ties, differing, error))
    assert reset.sum() >= 2 and (~active).sum() > 10
    assert error < AUDIO


@pytest.mark.parametrize("number", (1, 5))
def test_any_number_of_codebooks(number):
    model, mimi, params = both("base", 0, number)
    pcm = kyutai_runs.mimi_audio("base", 0, 20)
    theirs, gaps = kyutai.encode(model, pcm)
    assert theirs.shape[1] == number
    differing_codes(np.asarray(jomni.encode(mimi, params, pcm)), theirs, gaps < kyutai_runs.TIE, 1)
    assert audio_error(np.asarray(jomni.decode(mimi, params, theirs)), kyutai.decode(model, theirs)) < AUDIO


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation, tmp_path):
    config = copy.deepcopy(MIMI["one_step"])
    config["seanet"] |= {"activation": activation, "activation_params": {}, "n_residual_layers": 1, "ratios": [2]}
    config["transformer"]["num_layers"] = 1
    config["frame_rate"] = config["sample_rate"] / 2
    layout.write_mimi(tmp_path, config, kyutai.mimi_manifest(config), 0)
    model = kyutai.load_mimi(tmp_path, 6)
    mimi, params = jomni_side.load_mimi(tmp_path, 6)
    pcm = kyutai_runs.mimi_audio("one_step", 0, 20)
    theirs, gaps = kyutai.encode(model, pcm)
    differing_codes(np.asarray(jomni.encode(mimi, params, pcm)), theirs, gaps < kyutai_runs.TIE, 1)
    assert audio_error(np.asarray(jomni.decode(mimi, params, theirs)), kyutai.decode(model, theirs)) < AUDIO
