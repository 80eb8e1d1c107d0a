"""An exported Mini-Omni becomes the file that the original reads, and back."""

import jax
import numpy as np
import pytest

import jomni
from tests import mini_omni_case

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")

from tools import litgpt_pth  # noqa: E402


def test_the_tool_writes_what_the_original_reads_and_it_comes_back(tmp_path):
    held = mini_omni_case.write(tmp_path / "in", "gated-post")
    checkpoint = jomni.load(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "out")
    state = torch.load(litgpt_pth.convert(tmp_path / "out"), weights_only=True)
    assert state.keys() == held.keys() | {"lm_head.weight"}
    for name, tensor in held.items():
        np.testing.assert_array_equal(state[name].numpy(), tensor, err_msg=name)
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    (tmp_path / "out" / "lit_model.safetensors").unlink()
    back = jomni.load(tmp_path / "out")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back.params, checkpoint.params))


def test_the_tool_says_what_is_missing_or_in_the_way(tmp_path):
    with pytest.raises(SystemExit, match=r"lit_model\.safetensors.*model_config\.yaml"):
        litgpt_pth.convert(tmp_path)
    for name in ("lit_model.safetensors", "model_config.yaml", "lit_model.pth"):
        (tmp_path / name).touch()
    with pytest.raises(SystemExit, match=r"lit_model\.pth"):
        litgpt_pth.convert(tmp_path)
