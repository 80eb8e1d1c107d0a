"""Mini-Omni against recorded logits of the original, by tools/goldens/make_omni.py; needs no torch."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jomni.models.mini_omni import MiniOmni, MiniOmniConfig, place_features
from tests.parity.compare import largest_difference
from tools.goldens import omni_cases

DATA = Path(__file__).parent / "data" / "omni"
CASES = json.loads((DATA / "cases.json").read_text())


def params_of(config: MiniOmniConfig, drawn: dict[str, np.ndarray]) -> dict:
    """The published tensors as the model's parameters; every one of them is used."""
    left = dict(drawn)

    def take(name):
        return {kind: left.pop(f"{name}.{kind}") for kind in ("weight", "bias") if f"{name}.{kind}" in left}

    def norm(name):
        return {"alpha": take(name)["weight"]}

    def attention(name):
        """One matrix holds, for each head of keys, its heads of queries, that of keys and that of values."""
        groups, heads, dim = config.decoder.num_kv_heads, config.decoder.num_heads, config.decoder.head_dim
        out = {"q_proj": {}, "k_proj": {}, "v_proj": {}, "o_proj": take(f"{name}.proj")}
        for kind, value in take(f"{name}.attn").items():
            by_group = value.reshape(groups, -1, dim, *value.shape[1:])
            parts = np.split(by_group, [heads // groups, heads // groups + 1], 1)
            for key, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                out[key][kind] = part.reshape(-1, *value.shape[1:])
        return out

    def layers(name, count):
        mlp = {"gate_proj": "fc_1", "up_proj": "fc_2", "down_proj": "proj"}
        return {
            f"layers_{i}": {
                "pre_attention_norm": norm(f"{name}.{i}.norm_1"),
                "self_attn": attention(f"{name}.{i}.attn"),
                "pre_feedforward_norm": norm(f"{name}.{i}.norm_2"),
                "mlp": {ours: take(f"{name}.{i}.mlp.{theirs}") for ours, theirs in mlp.items()},
            }
            for i in range(count)
        }

    tree = {
        "whisper_adapter": take("whisper_adapter")
        or {part: take(f"whisper_adapter.{part}") for part in ("fc_1", "fc_2", "proj")},
        "backbone": {
            "embed_tokens": take("transformer.wte"),
            "norm": norm("transformer.ln_f"),
            **layers("transformer.h", config.decoder.num_layers),
        },
    }
    if config.post_adapter_layers:
        tree["post_adapter"] = {
            "norm": norm("transformer.post_adapter_audio_ln"),
            "lm_head": take("transformer.post_adapter_audio_lm_head"),
            **layers("transformer.post_adapter", config.post_adapter_layers),
        }
    assert not left, f"tensors that were not used: {', '.join(left)}"
    return tree


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
