"""Where arrays lie: the table of logical axes over the whole model, collisions, lengths that do not divide."""

import jax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from jomni.errors import ConfigError
from jomni.models.mimi import weights as mimi_weights
from jomni.models.moshi import weights as moshi_weights
from jomni.tensors.weight_map import flatten
from jomni.train.sharding import RULES, axes_by_path, batch_sharding, make_mesh, spec
from tests.tiny import TINY_MIMI, TINY_MOSHI

MESH = AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor"))


@pytest.mark.parametrize(
    "tree", [moshi_weights.abstract_params(TINY_MOSHI), mimi_weights.abstract_params(TINY_MIMI)], ids=["moshi", "mimi"]
)
def test_every_matrix_of_the_models_is_cut(tree):
    axes = axes_by_path(tree)
    for path, leaf in flatten(tree):
        names = axes
        for part in path.split("/"):
            names = names[part]
        cut, _ = spec(leaf.shape, names, MESH)  # raises for a collision
        if leaf.ndim >= 2 and "_codebook" not in path and "embedding_sum" not in path:
            assert any(cut), f"{path} {leaf.shape} is kept whole"


def test_moments_lie_where_their_parameters_do():
    state = {"params": {"in_proj": {"weight": jax.ShapeDtypeStruct((4, 2), "float32")}}}
    state["optimizer"] = ({"mu": state["params"]},)
    axes = axes_by_path(state)
    assert axes["optimizer"][0]["mu"] == axes["params"] == {"in_proj": {"weight": ("heads", "embed")}}


def test_an_axis_that_does_not_divide_is_kept_whole_and_named():
    assert spec((9, 4), ("vocab", "embed"), MESH) == (PartitionSpec(None, ("fsdp",)), ["vocab of length 9"])


def test_two_axes_that_want_the_same_mesh_axis_are_refused():
    with pytest.raises(ConfigError, match="both want mesh axis 'tensor'"):
        spec((4, 4), ("vocab", "mlp"), MESH)


def test_meshes_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="does not fit"):
        make_mesh(0, 64, 1)
    assert RULES["batch"] == ("data", "fsdp")
    with pytest.raises(ConfigError, match="a multiple of 4"):
        batch_sharding(MESH, 6)
