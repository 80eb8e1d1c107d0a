"""What tells frozen weights from others: every bit and its place, and nothing of how they lie."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.errors import ConfigError
from jomni.tensors.weight_map import unflatten
from jomni.train.config import TrainConfig
from jomni.train.freeze import fingerprint
from jomni.train.loop import train
from jomni.train.lora import LoRAConfig
from jomni.train.tasks.moshi import LMConfig
from jomni.train.tasks.moshi_data import SyntheticData
from tests.paths import ROOT
from tests.train_case import SMALL

pytestmark = pytest.mark.compiled_quickly

FORMS = {
    "a/weight": ((6, 8), jnp.bfloat16), "a/bias": ((8,), jnp.float32), "b/kernel": ((3, 2, 4), jnp.float16),
    "b/count": ((), jnp.int32), "c": ((5,), jnp.int8), "d": ((4,), jnp.bool_),
}  # fmt: skip


def leaves():
    rng = np.random.default_rng(0)
    return {path: jnp.asarray(np.abs(9 * rng.normal(size=shape)) > 5 if kind == jnp.bool_ else
                              9 * rng.normal(size=shape), kind) for path, (shape, kind) in FORMS.items()}  # fmt: skip


def test_it_is_the_same_for_the_same_weights():
    held = leaves()
    assert fingerprint(unflatten(held)) == fingerprint(unflatten(dict(reversed(held.items()))))
    assert fingerprint(unflatten(held)) == fingerprint(jax.device_get(unflatten(held)))
    assert len(fingerprint(unflatten(held))) == 64


@pytest.mark.parametrize("path", FORMS)
def test_one_bit_of_one_number_makes_it_another(path):
    held, seen = leaves(), {fingerprint(unflatten(leaves()))}
    raw, shape = np.asarray(held[path]), held[path].shape
    for at in range(raw.size):
        changed = np.ravel(raw).copy()
        bits = changed.view(bool if raw.dtype == bool else f"u{raw.dtype.itemsize}")
        bits[at] = ~bits[at] if raw.dtype == bool else bits[at] ^ 1
        seen.add(fingerprint(unflatten(held | {path: jnp.asarray(changed.reshape(shape))})))
    assert len(seen) == raw.size + 1


def test_the_same_numbers_elsewhere_make_it_another():
    held = leaves()
    weight, seen = held["a/weight"], {fingerprint(unflatten(held))}
    moved = [weight[::-1], weight[:, ::-1], weight.at[0, 0].set(weight[5, 7]).at[5, 7].set(weight[0, 0])]
    for other in [{"a/weight": x} for x in (*moved, weight.reshape(8, 6), weight.astype(jnp.float32))]:
        seen.add(fingerprint(unflatten(held | other)))
    seen.add(fingerprint(unflatten({path.replace("a/", "e/"): leaf for path, leaf in held.items()})))
    assert len(seen) == 7


@pytest.mark.slow
def test_a_run_goes_on_with_the_frozen_weights_that_it_began_with_alone(tmp_path):
    def base(seed):
        task = LMConfig(data=SyntheticData(), model=SMALL).build(10)
        shutil.rmtree(tmp_path / "base", ignore_errors=True)
        task.export(jax.jit(task.init)(jax.random.key(seed)), tmp_path / "base")

    def run(steps):
        task = LMConfig(data=SyntheticData(frames=14, examples=16), init_from=str(tmp_path / "base"),
                        lora=LoRAConfig(2, 2.0, False), batch=4, export="adapters")  # fmt: skip
        train(TrainConfig(name="x", out=str(tmp_path), task=task, steps=steps, tensorboard=False))

    base(1)
    run(2)
    base(2)
    with pytest.raises(ConfigError, match=r"'init_from'"):
        run(3)
    base(1)
    run(3)


_MESHES = """
import jax
from jax.sharding import NamedSharding, PartitionSpec
from jomni.train.freeze import fingerprint
from jomni.sharding import make_mesh
from jomni.tensors.weight_map import flatten, unflatten
from tests.unit.train.test_freeze import leaves

def placed(mesh):
    parts = {(6, 8): ("data", ("fsdp", "tensor")), (8,): (("data", "fsdp", "tensor"),), (4,): (("fsdp", "tensor"),)}
    fits = lambda x: PartitionSpec(*parts.get(x.shape, ()) if mesh.shape["data"] == 2 else ())
    return unflatten({path: jax.device_put(x, NamedSharding(mesh, fits(x))) for path, x in leaves().items()})

assert not placed(make_mesh(2, 2, 2))["a"]["weight"].is_fully_replicated
print(*{fingerprint(placed(make_mesh(*mesh))) for mesh in ((1, 1, 1), (8, 1, 1), (2, 2, 2))})
"""


@pytest.mark.slow
def test_it_is_the_same_on_any_mesh():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    said = subprocess.check_output([sys.executable, "-c", _MESHES], env=environment, text=True)
    assert said.split() == [fingerprint(unflatten(leaves()))]
