"""Sharding: the table of logical axes over whole models, collisions, lengths that do not divide, tensor parallelism."""

import os
import subprocess
import sys

import jax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from jomni.errors import ConfigError
from jomni.models.mimi import weights as mimi_weights
from jomni.models.moshi import weights as moshi_weights
from jomni.sharding import RULES, axes_by_path, batch_sharding, make_mesh, spec
from jomni.tensors.weight_map import flatten
from tests.paths import ROOT
from tests.tiny import TINY_MIMI, TINY_MOSHI

MESH = AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor"))


@pytest.mark.parametrize(
    "tree", [moshi_weights.abstract_params(TINY_MOSHI), mimi_weights.abstract_params(TINY_MIMI)], ids=["moshi", "mimi"]
)
def test_every_matrix_of_the_models_is_cut(tree):
    axes, whole = axes_by_path(tree), []
    matrices = {path for path, leaf in flatten(tree).items() if leaf.ndim >= 2}
    for path, leaf in flatten(tree).items():
        names = axes
        for part in path.split("/"):
            names = names[part]
        cut, _ = spec(leaf.shape, names, MESH)  # raises for a collision
        if path in matrices and not any(cut):
            whole.append(path)
    assert len(matrices) > 20
    assert set(whole) == {path for path in matrices if "_codebook" in path or "embedding_sum" in path}


def test_moments_lie_where_their_parameters_do():
    state = {"params": {"in_proj": {"weight": jax.ShapeDtypeStruct((4, 2), "float32")}}}
    state["optimizer"] = ({"mu": state["params"]},)
    axes = axes_by_path(state)
    assert axes["optimizer"][0]["mu"] == axes["params"] == {"in_proj": {"weight": ("heads", "embed")}}


def test_an_axis_that_does_not_divide_is_kept_whole_and_named():
    assert spec((9, 4), ("vocab", "embed"), MESH) == (PartitionSpec(None, ("fsdp",)), ["vocab of length 9"])


def test_two_axes_that_want_the_same_mesh_axis_are_refused():
    with pytest.raises(ConfigError, match=r"'vocab'.*'mlp'.*'tensor'"):
        spec((4, 4), ("vocab", "mlp"), MESH)


def test_meshes_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="fsdp=64"):
        make_mesh(0, 64, 1)
    assert RULES["batch"] == ("data", "fsdp")
    with pytest.raises(ConfigError, match=r"batch of 6 .* 4,"):
        batch_sharding(MESH, 6)


PARALLEL = """
import jax, jax.numpy as jnp, numpy as np
import jomni
from jomni import sharding
from tools.random_model import random_checkpoint

checkpoint = random_checkpoint()
model, whole = jomni.Duplex.from_checkpoint(checkpoint), checkpoint.params
mesh = sharding.make_mesh(data=2, tensor=2)
assert len(jax.devices()) == 4
pcm = 0.1 * jax.random.normal(jax.random.key(0), (2, 1, model.frame_size))
controls = model.controls(2, temperature=0.0, text_temperature=0.0)
params = sharding.shard_params(whole, mesh)
assert "tensor" in str(params["lm"]["text_linear"]["weight"].sharding.spec)
alone, together = model.init_state(2), sharding.shard_state(model.init_state(2), mesh)
for _ in range(5):
    alone, expected = model.step(whole, alone, pcm, controls)
    together, found = model.step(params, together, pcm, controls)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.text, expected.text)
    np.testing.assert_allclose(found.pcm, expected.pcm, atol=1e-4)
print("equal")
"""


def test_a_conversation_on_four_devices_is_that_on_one():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PARALLEL]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]
