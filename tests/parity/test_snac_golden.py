"""SNAC against recorded outputs of the original; needs no torch. tools/goldens/make_snac.py makes the recordings."""

import dataclasses
import json

import numpy as np
import pytest

import jomni
from jomni.models.snac import model as snac
from jomni.models.snac import weights as snac_weights
from jomni.models.snac.config import SNAC_24KHZ, SNAC_32KHZ, SNAC_44KHZ, SnacConfig
from jomni.models.snac.model import Snac
from jomni.nn.lookahead import fold_weight_norm
from tests.cases import slow_except
from tests.parity.compare import audio_error, differing_codes
from tests.paths import PARITY_DATA
from tools.goldens import snac_cases

DATA = PARITY_DATA / "snac"
MANIFESTS = json.loads((DATA / "manifests.json").read_text())
CONFIGS = {name: SnacConfig.from_published(raw) for name, raw in snac_cases.SNAC.items()}
PRESETS = {"snac_24khz": SNAC_24KHZ, "snac_44khz": SNAC_44KHZ}


def at_one_rate(config, tokens):
    """Arrays [B, N] of each codebook as one [B, K, T], every token standing at each of its latent steps."""
    return np.stack([np.repeat(np.asarray(x), s, 1) for x, s in zip(tokens, config.vq_strides, strict=True)], 1)


@pytest.mark.parametrize("case", slow_except({"speech"}, snac_cases.SNAC))
def test_codes_and_audio_are_those_of_the_original(case, tmp_path, say):
    seed, golden = snac_cases.SEEDS[case], np.load(DATA / f"{case}.npz")
    snac_cases.write(tmp_path, snac_cases.SNAC[case], MANIFESTS[case], seed)
    checkpoint = jomni.load(tmp_path)
    codec, params, config = Snac(checkpoint.configs["snac"]), checkpoint.params["snac"], checkpoint.configs["snac"]
    theirs = tuple(golden[f"codes_{k}"].astype(np.int32) for k in range(config.num_codebooks))
    ties = at_one_rate(config, [golden[f"ties_{k}"] for k in range(config.num_codebooks)])

    ours = snac.encode(codec, params, snac_cases.audio(case, seed))
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    differing = differing_codes(at_one_rate(config, ours), at_one_rate(config, theirs), ties, 0)
    assert differing < 10

    noise = snac_cases.noises(case, seed, theirs[0].shape[1] * config.vq_strides[0]) or None
    pcm = np.asarray(snac.decode(codec, fold_weight_norm(params), theirs, noise))
    error = audio_error(pcm[..., :: snac_cases.EVERY], golden["pcm"])
    say(f"snac {case}: {differing} codes differ ({ties.sum()} near ties), audio {error:.1e} of RMS")
    assert error < 1e-4


@pytest.mark.parametrize("name", MANIFESTS)
def test_names_and_shapes_are_those_of_the_original(name):
    assert dataclasses.replace(SNAC_32KHZ, sampling_rate=44_100) == SNAC_44KHZ
    config = PRESETS.get(name) or CONFIGS[name]
    assert {
        t.name: list(t.shape) for t in snac_weights.weight_map().expect(snac_weights.abstract_params(config))
    } == MANIFESTS[name]
