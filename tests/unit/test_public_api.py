"""The public API as the README shows it: `from_pretrained`, `init_state`, `step`; readable objects."""

from __future__ import annotations

import argparse
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni.checkpoints.pretrained import default_dtype
from jomni.cli.model import load_model
from jomni.errors import AudioError
from tests import decoder_cases, mini_omni_case

pytestmark = pytest.mark.compiled_quickly


def test_three_lines_hold_a_conversation(tiny_moshi_folder):
    model, params = jomni.from_pretrained(tiny_moshi_folder)
    state = model.init_state(batch=2, seed=0)
    pcm = 0.1 * jax.random.normal(jax.random.key(0), (2, 1, model.frame_size))
    for _ in range(4):
        state, out = model.step(params, state, pcm)
    assert out.pcm.shape == pcm.shape and out.codes.shape[0] == out.text.shape[0] == 2
    assert len(model.text(out.text)) == 2


def test_without_controls_a_step_takes_the_checkpoints_defaults(tiny_moshi_folder):
    model, params = jomni.from_pretrained(tiny_moshi_folder)
    pcm = 0.1 * jax.random.normal(jax.random.key(0), (2, 1, model.frame_size))
    outs = []
    for controls in (None, model.controls(2)):
        state = model.init_state(2, seed=3)
        for _ in range(3):
            state, out = model.step(params, state, pcm, controls)
        outs.append(out)
    for ours, theirs in zip(*map(jax.tree.leaves, outs), strict=True):  # of two programs: floats may round otherwise
        exact = jnp.issubdtype(ours.dtype, jnp.integer) or ours.dtype == bool
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0 if exact else 1e-6)


@pytest.mark.parametrize(
    ("change", "word"),
    [(lambda x: x[:1], "shape"), (lambda x: x[..., :-1], "shape"), (lambda x: (x * 3e4).astype(jnp.int16), "int16")],
)
def test_a_frame_that_does_not_fit_is_refused_by_name(tiny_moshi_folder, change, word):
    model, params = jomni.from_pretrained(tiny_moshi_folder)
    pcm = jnp.zeros((2, 1, model.frame_size))
    with pytest.raises(AudioError, match=word):
        model.step(params, model.init_state(2), change(pcm))


def test_a_model_is_made_in_the_dtype_that_the_device_computes_well(tiny_moshi_folder, tmp_path):
    jomni.save(jomni.load(tiny_moshi_folder), tmp_path / "half", dtype="bfloat16")
    assert jomni.load(tmp_path / "half").params["lm"]["text_emb"]["weight"].dtype == jnp.bfloat16
    model, params = jomni.from_pretrained(tmp_path / "half")
    assert default_dtype() == "float32" and params["lm"]["text_emb"]["weight"].dtype == jnp.float32
    assert "float32" in repr(model)
    assert jomni.from_pretrained(tmp_path / "half", dtype="bfloat16")[0].generator.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("platform", "capability", "dtype"),
    [
        ("cpu", None, "float32"), ("tpu", None, "bfloat16"), ("gpu", "7.5", "float16"), ("cuda", "7.0", "float16"),
        ("gpu", "8.0", "bfloat16"), ("gpu", "10.0", "bfloat16"), ("gpu", "gfx942", "bfloat16"),
    ],
)  # fmt: skip
def test_one_rule_chooses_the_dtype_of_a_device_for_python_and_the_command_line(
    tiny_moshi_folder, platform, capability, dtype
):
    held = {} if capability is None else {"compute_capability": capability}
    device = types.SimpleNamespace(platform=platform, **held)
    assert default_dtype(device) == dtype
    options = argparse.Namespace(model=str(tiny_moshi_folder), dtype=None)
    checkpoint, chosen = load_model(options, device)
    assert chosen == dtype and checkpoint.params["lm"]["text_emb"]["weight"].dtype == dtype
    options.dtype = "bfloat16"
    assert load_model(options, device)[1] == "bfloat16"


def test_every_kind_of_model_comes_as_what_runs(tmp_path, tiny_mimi_file):
    mini_omni_case.write(tmp_path / "omni", neighbours=True)
    jomni.save(decoder_cases.checkpoint(), tmp_path / "decoder")
    for name in ("whisper", "snac"):
        jomni.save(jomni.load(tmp_path / "omni", components=(name,)), tmp_path / name)
    places = {"omni": jomni.OmniModel, "whisper": jomni.SpeechEncoder, "snac": jomni.SnacCodec,
              "decoder": jomni.TextGenerator}  # fmt: skip
    for name, kind in places.items():
        assert isinstance(jomni.from_pretrained(tmp_path / name)[0], kind), name
    codec, params = jomni.from_pretrained(tiny_mimi_file)
    assert isinstance(codec, jomni.MimiCodec) and codec.sample_rate == codec.frame_rate * codec.frame_size
    assert codec.decode(params, codec.encode(params, jnp.zeros((1, 1, codec.frame_size)))).shape[-1] == codec.frame_size


def test_mini_omni_gives_its_tokens(tmp_path):
    mini_omni_case.write(tmp_path / "omni", neighbours=True)
    model, params = jomni.from_pretrained(tmp_path / "omni")
    chat = model.chat(params, system=None)
    pieces = list(chat.reply(["Hello"], "text", max_steps=5))
    streams = model.generator.config.vocabulary.streams
    assert all(piece.tokens[0] is None or piece.tokens[0].shape == (streams + 1,) for piece in pieces)
    state = model.init_state(1)
    state, out = model.decode_step(params, state)
    state, again = model.decode_step(params, state)
    assert out.tokens.shape == again.tokens.shape == (1, streams + 1)


def seven(logits, temperature, top_k, keys, top_p=None):
    """A sampler of one's own: token 7, whatever its logits."""
    return jnp.full(logits.shape[:1], 7, jnp.int32)


def test_tokens_are_drawn_by_a_sampler_of_ones_own(tiny_moshi_folder, tmp_path):
    model, params = jomni.from_pretrained(tiny_moshi_folder)
    model = dataclasses.replace(model, generator=dataclasses.replace(model.generator, sampler=seven))
    state = model.init_state(2)
    for _ in range(4):  # until there are frames without initial tokens
        state, out = model.step(params, state, jnp.zeros((2, 1, model.frame_size)))
    assert (out.text == 7).all() and (out.codes == 7).all()
    mini_omni_case.write(tmp_path / "omni", neighbours=True)
    omni, params = jomni.from_pretrained(tmp_path / "omni")
    omni = dataclasses.replace(omni, generator=dataclasses.replace(omni.generator, sampler=seven))
    state, out = omni.decode_step(params, omni.init_state(1))
    assert out.tokens[0, -1] == 7
    jomni.save(decoder_cases.checkpoint(), tmp_path / "decoder")
    decoder, params = jomni.from_pretrained(tmp_path / "decoder")
    decoder = dataclasses.replace(decoder, sampler=seven)
    state, _ = decoder.decode_step(params, decoder.init_state(1), decoder.controls(1))
    assert (state.token == 7).all()


def test_everything_public_prints_on_a_screen(tiny_moshi_folder, tmp_path):
    checkpoint = jomni.load(tiny_moshi_folder)
    model, params = jomni.from_pretrained(tiny_moshi_folder)
    state = model.init_state(batch=4)
    state, out = model.step(params, state, jnp.zeros((4, 1, model.frame_size)))
    mini_omni_case.write(tmp_path / "omni", neighbours=True)
    omni, _ = jomni.from_pretrained(tmp_path / "omni")
    shown = {
        "checkpoint": checkpoint, "duplex": model, "generator": model.generator, "state": state, "output": out,
        "controls": model.controls(4), "codec": jomni.MimiCodec(model.mimi), "module": model.mimi,
        "codec state": jomni.MimiCodec(model.mimi).init_encode_state(2), "omni": omni, "omni state": omni.init_state(2),
        **{f"config {name}": config for name, config in checkpoint.configs.items()},
        **{name: getattr(jomni, name) for name in jomni.__all__ if not isinstance(getattr(jomni, name), dict)},
    }  # fmt: skip
    assert {name: len(repr(value)) for name, value in shown.items() if len(repr(value)) >= 2000} == {}
