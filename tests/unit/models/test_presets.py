"""The tiny configurations: small, buildable, and fitting each other; modules nest in other modules and print."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import jomni
from jomni.models.decoder import weights as decoder_weights
from jomni.models.mimi import weights as mimi_weights
from jomni.models.mini_omni import weights as omni_weights
from jomni.models.moshi import weights as moshi_weights
from jomni.models.snac import weights as snac_weights
from jomni.models.whisper import weights as whisper_weights

pytestmark = pytest.mark.compiled_quickly

TINY = {
    jomni.DecoderConfig: decoder_weights, jomni.MimiConfig: mimi_weights, jomni.MiniOmniConfig: omni_weights,
    jomni.MoshiConfig: moshi_weights, jomni.SnacConfig: snac_weights, jomni.WhisperConfig: whisper_weights,
}  # fmt: skip


@pytest.mark.parametrize("kind", TINY, ids=lambda kind: kind.__name__)
def test_a_tiny_configuration_has_few_parameters_and_prints_on_a_screen(kind):
    config = kind.tiny()
    shapes = jax.tree.leaves(TINY[kind].abstract_params(config))
    assert 0 < sum(leaf.size for leaf in shapes) < 200_000
    assert len(repr(config)) < 2000


def test_tiny_configurations_fit_each_other():
    mimi, moshi = jomni.MimiConfig.tiny(), jomni.MoshiConfig.tiny()
    assert (mimi.quantizer.bins, mimi.num_codebooks) == (moshi.card, moshi.n_q)
    omni, snac, whisper = jomni.MiniOmniConfig.tiny(), jomni.SnacConfig.tiny(), jomni.WhisperConfig.tiny()
    assert sum(snac.tokens_per_frame) == omni.vocabulary.streams and snac.codebook_size == omni.vocabulary.audio_size
    assert whisper.n_audio_state == omni.feature_dim


class Probe(nn.Module):
    """A user's own module around a codec's encoder and a classifier."""

    mimi: jomni.Mimi
    classes: int = 3

    @nn.compact
    def __call__(self, pcm):
        latent, _ = self.mimi.encode_latent(pcm)
        return nn.Dense(self.classes)(latent.mean(1))


def test_a_module_works_inside_a_users_own_module():
    mimi = jomni.Mimi(jomni.MimiConfig.tiny())
    pcm = jnp.zeros((2, 1, mimi.config.frame_size))
    probe = Probe(mimi)
    params = jax.jit(probe.init)(jax.random.key(0), pcm)["params"]
    assert set(params) == {"mimi", "Dense_0"}

    def loss(params):
        return probe.apply({"params": params}, pcm + 0.1).sum()

    gradient = jax.jit(jax.grad(loss))(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert abs(gradient["Dense_0"]["kernel"]).max() > 0


@pytest.mark.parametrize("name", ["mimi", "snac", "moshi"])
def test_a_table_of_the_modules_is_readable(name):
    if name == "mimi":
        module: nn.Module = jomni.Mimi(jomni.MimiConfig.tiny())
        x = jnp.zeros((1, 1, 1920))
    elif name == "snac":
        config = jomni.SnacConfig.tiny()
        module, x = jomni.Snac(config), jnp.zeros((1, 1, config.frame_size * config.frame_multiple))
    else:
        module = jomni.MoshiLM(jomni.MoshiConfig.tiny())
        x = jnp.zeros((1, 9, 4), jnp.int32)
    table = module.tabulate(jax.random.key(0), x, depth=1, console_kwargs={"width": 160, "force_terminal": False})
    assert "Total Parameters" in table and "<function" not in table and max(map(len, table.splitlines())) <= 160
    assert len(table.splitlines()) < 150
