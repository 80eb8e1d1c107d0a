"""Every public function of arrays works inside jit, vmap, grad, scan and on a mesh; exceptions are listed here."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni.errors import AudioError
from jomni.models.mimi.codec import MimiCodec
from jomni.models.mimi.model import Mimi
from jomni.models.snac.codec import SnacCodec
from jomni.models.snac.config import SNAC_44KHZ
from jomni.models.snac.model import Snac
from jomni.models.whisper.config import WhisperConfig
from tests.cases import slow_except
from tests.tiny import TINY_MIMI, random_params

pytestmark = pytest.mark.compiled_quickly

SNAC = jomni.SnacConfig(
    sampling_rate=16_000, encoder_dim=4, encoder_rates=(2, 3), decoder_dim=16, decoder_rates=(3, 2),
    attn_window_size=None, vq_strides=(4, 2, 1), codebook_size=16, codebook_dim=4, noise=False, depthwise=False,
)  # fmt: skip
WHISPER = WhisperConfig(
    n_mels=8, n_audio_ctx=10, n_audio_state=8, n_audio_head=2, n_audio_layer=1, n_vocab=8, n_text_ctx=4,
    n_text_state=8, n_text_head=2, n_text_layer=1,
)  # fmt: skip

NOT_OF_ARRAYS = {
    "as_codec", "converse", "default_dtype", "fold_codebooks", "fold_weight_norm", "from_pretrained", "load",
    "plot_conversation", "prepare_conditions", "save", "transcribe",
}  # fmt: skip
"""Public functions that are run on the host: files, whole conversations, parameter trees, plots."""

FRAMES = 8
"""Of a step: more than the delay of the SNAC below, or nothing would come out."""

NO_GRADIENT = {"encode", "encode_step", "reset"}
"""Their results are integers, or a state."""


@functools.cache
def mimi():
    module = Mimi(TINY_MIMI, 4)
    return MimiCodec(module), random_params(module, jnp.zeros((1, 1, module.config.frame_size)))


@functools.cache
def snac():
    module = Snac(SNAC)
    return SnacCodec(module), random_params(module, jnp.zeros((1, 1, SNAC.frame_size)))


@functools.cache
def whisper():
    module = jomni.WhisperEncoder(WHISPER)
    return module, random_params(module, jnp.zeros((1, WHISPER.n_mels, 4)))


def pcm(codec, frames=2, seed=0):
    return 0.1 * jax.random.normal(jax.random.key(seed), (2, 1, frames * codec.frame_size))


def cases():
    """Name -> (function of one array of floats or a pytree, its argument)."""
    found = {}
    for kind, made in (("mimi", mimi), ("snac", snac)):
        codec, params = made()
        codes = jomni.encode(codec, params, pcm(codec, FRAMES))
        ears, voice = codec.init_encode_state(2, FRAMES), codec.init_decode_state(2, FRAMES)
        found[f"encode {kind}"] = functools.partial(jomni.encode, codec, params), pcm(codec)
        found[f"decode {kind}"] = functools.partial(jomni.decode, codec, params), codes
        found[f"encode_step {kind}"] = functools.partial(jomni.encode_step, codec, params, ears), pcm(codec, FRAMES)
        found[f"decode_step {kind}"] = functools.partial(jomni.decode_step, codec, params, voice), codes
    codec, _ = mimi()
    found["reset"] = (lambda mask: jomni.reset(codec.init_encode_state(2), mask > 0)), jnp.array([0.0, 1.0])
    encoder, params = whisper()
    found["embed_audio"] = functools.partial(jomni.embed_audio, encoder, params), jnp.ones((2, WHISPER.n_mels, 4))
    found["log_mel"] = functools.partial(jomni.log_mel, n_mels=8, samples=3200), 0.1 * jnp.ones((2, 3200))
    return found


NAMES = [
    *(f"{name} {kind}" for kind in ("mimi", "snac") for name in ("encode", "decode", "encode_step", "decode_step")),
    "reset", "embed_audio", "log_mel",
]  # fmt: skip


def test_every_public_function_is_tried_or_listed_as_an_exception():
    functions = {name for name in jomni.__all__ if inspect.isfunction(inspect.unwrap(getattr(jomni, name)))}
    functions |= {name for name in jomni.__all__ if type(getattr(jomni, name)).__name__ == "PjitFunction"}
    assert {name.split()[0] for name in NAMES} == functions - NOT_OF_ARRAYS
    assert set(cases()) == set(NAMES)


def same(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def fresh(name):
    """The case anew: steps donate their state."""
    return cases()[name]


SLOW = {"encode snac", "decode snac", "encode_step snac", "decode_step snac"}


@pytest.mark.parametrize("name", slow_except(set(NAMES) - SLOW, NAMES))
def test_they_work_under_jit_scan_vmap_and_on_a_mesh(name):
    function, x = fresh(name)
    expected = jax.device_get(function(x))
    function, x = fresh(name)
    same(jax.jit(function)(x), expected)
    if not name.startswith(("encode_step", "decode_step")):  # a closed-over state is no loop variable: see below
        many = jax.tree.map(lambda a: jnp.stack([a, a]), x)
        same(jax.tree.map(lambda a: a[1], jax.vmap(function)(many)), expected)
        _, rows = jax.lax.scan(lambda carry, row: (carry, function(row)), None, many)
        same(jax.tree.map(lambda a: a[0], rows), expected)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    function, x = fresh(name)
    same(jax.jit(function)(jax.device_put(x, sharding)), expected)


@pytest.mark.parametrize("made", [mimi, snac])
def test_steps_are_the_body_of_a_scan(made):
    codec, params = made()
    blocks = jnp.stack([pcm(codec, 1, seed) for seed in range(3)])
    step = functools.partial(jomni.encode_step, codec, params)
    _, found = jax.lax.scan(step, codec.init_encode_state(2), blocks)
    state = codec.init_encode_state(2)
    for n, block in enumerate(blocks):
        state, codes = jomni.encode_step(codec, params, state, block)
        same(jax.tree.map(lambda a, n=n: a[n], found), codes)


@pytest.mark.parametrize(
    "name", slow_except({"decode mimi", "log_mel"}, [n for n in NAMES if n.split()[0] not in NO_GRADIENT])
)
def test_they_have_a_gradient(name):
    function, x = fresh(name)
    if name.startswith("decode"):  # of the parameters: codes are integers
        kind = name.split()[1]
        codec, params = {"mimi": mimi, "snac": snac}[kind]()
        codes = x

        def loss(params):
            if name.startswith("decode_step"):
                return jomni.decode_step(codec, params, codec.init_decode_state(2, FRAMES), codes)[1].sum()
            return jomni.decode(codec, params, codes).sum()

        gradient = jax.grad(loss, allow_int=True)(params)["decoder"]
    else:
        gradient = jax.grad(lambda x: function(x).sum())(x)
    leaves = [leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype == jnp.float32]
    assert all(np.isfinite(leaf).all() for leaf in leaves) and any(np.abs(leaf).max() > 0 for leaf in leaves)


@pytest.mark.parametrize("made", [mimi, snac])
def test_codes_out_of_range_are_refused_on_the_host_and_only_there(made):
    codec, params = made()
    codes = jax.tree.map(lambda c: np.full(c.shape, 99), jomni.encode(codec, params, pcm(codec)))
    with pytest.raises(AudioError, match="99"):
        jomni.decode(codec, params, codes)
    jomni.decode(codec, params, jax.tree.map(jnp.asarray, codes))  # clipped, as in a step
    with pytest.raises(AudioError, match=r"\bcodes\b"):
        jax.jit(functools.partial(jomni.decode, codec))(params, jax.tree.map(lambda c: jnp.asarray(c)[0], codes))


def test_the_two_codecs_are_interchangeable():
    def through(codec, params, wave):
        """What any codec gives of a recording in blocks, its delays cut off."""
        params, block = codec.prepare(params), codec.frame_size * codec.frame_multiple
        encode, decode = codec.init_encode_state(2), codec.init_decode_state(2)
        whole, pieces = codec.encode(params, wave), []
        for start in range(0, wave.shape[-1], block):
            encode, _ = codec.encode_step(params, encode, wave[..., start : start + block])
            codes = jax.tree.map(
                lambda c: c[..., : c.shape[-1] * 1], codec.encode(params, wave[..., start : start + block])
            )
            decode, out = codec.decode_step(params, decode, codes)
            pieces.append(out)
        codec.encode_flush(params, encode)
        pieces.append(codec.decode_flush(params, decode)[1])
        return whole, jnp.concatenate(pieces, -1)[..., codec.decode_delay :]

    for codec, params in (mimi(), snac()):
        assert isinstance(codec, jomni.Codec)
        wave = pcm(codec, 4)
        codes, out = through(codec, params, wave)
        assert jax.tree.leaves(codes)[0].dtype == jnp.int32 and out.shape == wave.shape
        assert codec.frame_rate * codec.frame_size == codec.sample_rate
    assert SNAC_44KHZ.frame_multiple > 1  # a block of such a codec holds several frames
