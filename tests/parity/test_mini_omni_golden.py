"""Mini-Omni against recorded logits of the original, by tools/goldens/make_omni.py; needs no torch."""

import json

import jax
import numpy as np
import pytest

from jomni.models.mini_omni import MiniOmni, MiniOmniConfig, place_features
from jomni.models.mini_omni.weights import bind_omni
from jomni.tensors.source import MemorySource
from jomni.tensors.stream import Origin, read_tree
from tests.parity.compare import largest_difference
from tests.paths import PARITY_DATA
from tools.goldens import omni_cases

DATA = PARITY_DATA / "omni"
CASES = json.loads((DATA / "cases.json").read_text())


def params_of(config: MiniOmniConfig, drawn: dict[str, np.ndarray]) -> dict:
    """The published tensors as the model's parameters; every one of them is used."""
    source = MemorySource(drawn)
    origins = {path: Origin(source, place) for path, place in bind_omni(config, source).items()}
    return read_tree("omni/", origins, lambda path, held: held, lambda path, shape: None)


@pytest.mark.parametrize("case", CASES)
def test_logits_of_whole_sequences_are_those_of_the_original(case, say):
    seed, golden = CASES[case]["seed"], dict(np.load(DATA / f"{case}.npz"))
    config = MiniOmniConfig.from_published(omni_cases.CASES[case])
    params = params_of(config, omni_cases.weights(CASES[case]["tensors"], seed))
    tokens, features = omni_cases.inputs(seed)
    placed, heard = place_features(features, omni_cases.spoken(), omni_cases.STEPS)
    whole = jax.jit(lambda params, *given: MiniOmni(config).apply({"params": params}, *given)[:2])
    text, audio = whole(params, tokens, placed, heard)
    ours = omni_cases.kept(np.asarray(text), np.asarray(audio))

    assert ours.keys() == golden.keys() and golden["text"].std() > 1 and golden["audio"].std() > 1
    differences = {name: largest_difference(ours[name], golden[name]) for name in ("text", "audio")}
    say(f"Mini-Omni {case}: logits differ by {max(differences.values()):.1e} at most, of text and of audio")
    for stream in ("text", "audio"):
        assert differences[stream] < omni_cases.TOLERANCE, stream
        assert largest_difference(ours[f"{stream}_sum"], golden[f"{stream}_sum"]) < omni_cases.TOLERANCE, stream
        np.testing.assert_array_equal(ours[f"{stream}_best"], golden[f"{stream}_best"])
