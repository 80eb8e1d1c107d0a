"""SNAC beside the original, both reading the same seeded files in the published layout."""

from __future__ import annotations

import numpy as np
import pytest

import jomni
from jomni.models.snac import model as snac
from jomni.models.snac.model import Snac
from jomni.nn.lookahead import fold_weight_norm
from tests.parity.compare import audio_distance, audio_error, differing_codes
from tests.parity.test_snac_golden import MANIFESTS, at_one_rate
from tools.goldens import snac_cases

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("one_thread_and_float32")]
torch = pytest.importorskip("torch")
pytest.importorskip("snac")

from tools.goldens import make_snac  # noqa: E402
from tools.goldens import snac as peer  # noqa: E402

OPTIONS = [
    ("speech", {}), ("speech", {"noise": False}), ("speech", {"depthwise": False}), ("music", {}),
    ("music", {"attn_window_size": None}), ("music", {"noise": False, "depthwise": False}), ("plain", {"noise": True}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "options"), OPTIONS)
def test_codes_and_audio_are_those_of_the_original(case, options, tmp_path, say, monkeypatch):
    monkeypatch.setitem(snac_cases.SNAC, case, snac_cases.SNAC[case] | options)
    seed = 5
    peer.write(tmp_path, snac_cases.SNAC[case], seed)
    model = peer.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # so that jomni reads the pickle too
    checkpoint = jomni.load(tmp_path)
    config, codec = checkpoint.configs["snac"], Snac(checkpoint.configs["snac"])
    params = fold_weight_norm(checkpoint.params["snac"])

    pcm = snac_cases.audio(case, seed)[..., :9001]
    theirs, gaps = peer.encode(model, pcm)
    ours = snac.encode(codec, params, pcm)
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    ties = at_one_rate(config, gaps) < snac_cases.TIE
    differing = differing_codes(at_one_rate(config, ours), at_one_rate(config, theirs), ties, 0)

    noise = snac_cases.noises(case, seed, theirs[0].shape[1] * config.vq_strides[0])
    voice = peer.decode(model, theirs, noise)
    error = audio_error(np.asarray(snac.decode(codec, params, theirs, noise or None)), voice)
    assert bool(noise) == config.noise
    if noise:  # it is heard, so its place and scale are compared
        assert audio_distance(np.asarray(snac.decode(codec, params, theirs)), voice) > 1e-2
    say(f"snac {case} {options}: {differing} codes differ ({ties.sum()} near ties), audio {error:.1e} of RMS")
    assert error < 1e-4


def test_names_and_shapes_are_what_the_original_gives_today():
    assert make_snac.manifests() == MANIFESTS


def test_an_export_is_read_by_the_original(tmp_path):
    peer.write(tmp_path / "in", snac_cases.SNAC["speech"], 0)
    jomni.save(jomni.load(tmp_path / "in"), tmp_path / "out")
    before, after = (peer.load(tmp_path / name).state_dict() for name in ("in", "out"))
    assert before.keys() == after.keys() and all(torch.equal(x, before[name]) for name, x in after.items())
