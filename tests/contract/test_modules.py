"""Every streaming module keeps the contract: steps equal the whole, whatever pauses and resets."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.models.mimi.model import Mimi, decode_step, encode_step
from jomni.models.mimi.seanet import SeanetDecoder, SeanetEncoder
from jomni.nn import TransformerConfig, reset
from jomni.nn.contract import verify_contract
from jomni.nn.conv import CausalConv, CausalConvTranspose
from jomni.nn.transformer import Transformer
from tests.tiny import TINY_MIMI, TINY_MOSHI, random_params

pytestmark = pytest.mark.compiled_quickly


def noise(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def verify(module, x, *, init=lambda batch, block: (batch,), method=None, state_method="init_state", **options):
    params = random_params(module, x, method=method)

    def run(x, state, active):
        return module.apply({"params": params}, x, state, active, method=method)

    def init_state(batch, block):
        return module.apply({}, *init(batch, block), method=state_method)

    verify_contract(run, init_state, x, **options)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pad_mode"),
    [(7, 1, 1, "constant"), (3, 1, 4, "constant"), (4, 2, 1, "replicate"), (1, 1, 1, "constant"),
     (10, 5, 1, "constant"), (3, 3, 1, "constant"), (3, 1, 2, "replicate")],
)  # fmt: skip
def test_convolution(kernel, stride, dilation, pad_mode):
    conv = CausalConv(4, kernel, stride, dilation, pad_mode=pad_mode, channels=3)
    verify(conv, noise(3, 12 * stride, 3), unit=stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "depthwise"), [(4, 2, True), (16, 8, False), (7, 2, False), (3, 3, False)]
)
def test_transposed_convolution(kernel, stride, depthwise):
    verify(CausalConvTranspose(3, kernel, stride, depthwise=depthwise), noise(3, 12, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"positional_embedding": "rope", "layer_scale": 0.1},
        {"positional_embedding": "sin_rope", "norm": "rms_norm_f32", "gating": "silu"},
        {"positional_embedding": "rope_concat", "kv_repeat": 2, "norm": "rms_norm"},
        {"positional_embedding": "sin", "norm": "layer_norm_f32", "gating": "gelu"},
        {"positional_embedding": "none", "context": 3},
    ],
)
def test_transformer(options):
    small = {"dim": 16, "num_heads": 4, "num_layers": 2, "dim_feedforward": 24, "context": 7}
    module = Transformer(TransformerConfig(**(small | options)))
    verify(module, noise(3, 23, 16), init=lambda batch, block: (batch, jnp.float32, block), blocks=(1, 2, 11))


def test_cross_attention():
    config = TransformerConfig(dim=8, num_heads=2, num_layers=2, dim_feedforward=16, context=5, cross_attention=True)
    module, x, source = Transformer(config), noise(2, 12, 8), noise(2, 4, 8, seed=9)

    def whole(module, x):
        return module(x, cross=module.cross_caches(source))

    params = random_params(module, x, method=whole)
    caches = module.apply({"params": params}, source, method="cross_caches")
    verify_contract(
        lambda x, state, active: module.apply({"params": params}, x, state, active, caches),
        lambda batch, block: module.init_state(batch, jnp.float32, block),
        x,
    )


def test_kyutai_ring_differs_from_the_whole_once_it_wraps_in_blocks_and_only_then():
    config = TransformerConfig(
        dim=16, num_heads=2, num_layers=1, dim_feedforward=24, context=6, positional_embedding="rope"
    )
    module, x = Transformer(config), noise(1, 16, 16)
    params = random_params(module, x)
    whole, _ = module.apply({"params": params}, x)

    def stream(block):
        state, out = module.init_state(1, jnp.float32, block, ring="kyutai"), []
        for start in range(0, 16, block):
            y, state = module.apply({"params": params}, x[:, start : start + block], state)
            out.append(y)
        return jnp.abs(jnp.concatenate(out, 1) - whole).max(-1)[0]

    assert stream(1).max() < 1e-5
    error = stream(2)
    assert error[:6].max() < 1e-5
    assert error[6::2].min() > 1e-4, "the first step of a block has lost its oldest key"
    assert error[7::2].max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"pad_mode": "replicate", "true_skip": False, "n_residual_layers": 2}])
def test_seanet(options):
    config = dataclasses.replace(TINY_MIMI.seanet, **options)
    verify(SeanetEncoder(config), noise(2, config.hop_length * 7, 1), unit=config.hop_length)
    verify(SeanetDecoder(config), noise(2, 7, config.dimension))


@pytest.mark.parametrize("width", [16, pytest.param(24, marks=pytest.mark.slow)])
def test_mimi(width):
    config = dataclasses.replace(TINY_MIMI, transformer=dataclasses.replace(TINY_MIMI.transformer, dim=width))
    mimi = Mimi(config, 4)
    frame = config.frame_size
    x = noise(2, 1, frame * 16)
    params = random_params(mimi, x)

    def run(method, x, state, active):
        return mimi.apply({"params": params}, x, state, active, method=method)

    verify_contract(partial(run, "encode"), mimi.init_encode_state, x, unit=frame, axis=2, out_axis=2, blocks=(1, 3))
    codes, _ = run("encode", x, None, None)
    assert len(np.unique(codes)) > 10, "codes that hardly vary would prove nothing"
    verify_contract(partial(run, "decode"), mimi.init_decode_state, codes, axis=2, out_axis=2, blocks=(1, 3))


def test_each_codec_step_compiles_once():
    """Over resets, pauses and broken audio."""
    mimi = Mimi(TINY_MIMI, 4)
    params = random_params(mimi, noise(2, 1, TINY_MIMI.frame_size))
    hearing, saying = mimi.init_encode_state(2), mimi.init_decode_state(2)
    encode_step.clear_cache(), decode_step.clear_cache()
    for frame in range(6):
        again = jnp.asarray([frame == 3, False])
        hearing, saying = reset(hearing, again), reset(saying, again)
        pcm = noise(2, 1, TINY_MIMI.frame_size, seed=frame).at[0, 0, 5].set(jnp.nan if frame == 2 else 0.0)
        active = jnp.asarray([True, frame % 2 == 0])
        hearing, codes = encode_step(mimi, params, hearing, pcm, active)
        saying, _ = decode_step(mimi, params, saying, codes, active)
    assert encode_step._cache_size() == decode_step._cache_size() == 1


def test_temporal_transformer_of_the_language_model():
    from jomni.models.moshi import MoshiLM

    lm = MoshiLM(TINY_MOSHI)
    tokens = jax.random.randint(jax.random.key(0), (3, TINY_MOSHI.n_q + 1, 20), -1, 20)
    params = random_params(lm, tokens)
    verify_contract(
        lambda x, state, active: lm.apply({"params": params}, x, state, active, method="temporal"),
        lambda batch, block: lm.init_state(batch),
        tokens, axis=2, blocks=(1,),
    )  # fmt: skip


def test_a_breach_is_found():
    """The helper itself can fail: a module that forgets its past does not keep the contract."""

    def forgetful(x, state, active):
        return (jnp.cumsum(x, 1), state)

    with pytest.raises(AssertionError, match="off by"):
        verify_contract(forgetful, lambda batch, block: {"offset": jnp.zeros(batch, jnp.int32)}, noise(2, 8, 3))
