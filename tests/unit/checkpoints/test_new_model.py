"""A new model is a folder and one line in the registry: then it is detected, loaded, saved, shown and converted."""

from __future__ import annotations

import numpy as np
import pytest

import jomni
from jomni.checkpoints import registry
from jomni.cli.main import main
from jomni.errors import WeightsError
from tests.dummy_model.component import COMPONENT
from tests.dummy_model.config import DummyConfig


@pytest.fixture
def registered(monkeypatch):
    """The one line."""
    monkeypatch.setitem(registry.COMPONENTS, COMPONENT.name, COMPONENT)


@pytest.fixture
def checkpoint(registered):
    """A checkpoint of the new model, 12 parameters."""
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    return jomni.Checkpoint("dummy", {"dummy": DummyConfig()}, {"dummy": {"head": {"weight": weight}}})


@pytest.mark.parametrize("layout", ["dummy", "orbax"])
def test_it_is_saved_detected_and_loaded_in_every_layout(checkpoint, layout, tmp_path):
    jomni.save(checkpoint, tmp_path / "out", layout)
    again = jomni.load(tmp_path / "out")
    assert (again.family, again.configs) == ("dummy", checkpoint.configs)
    np.testing.assert_array_equal(again.params["dummy"]["head"]["weight"], np.arange(12).reshape(3, 4))
    assert checkpoint.layouts == ("dummy", "orbax")
    model, params = jomni.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(model.apply({"params": params}, np.ones((1, 4), np.float32)), [[6, 22, 38]])


def test_the_commands_show_and_convert_it(checkpoint, tmp_path, capsys):
    jomni.save(checkpoint, tmp_path / "a")
    assert main(["info", str(tmp_path / "a" / "model.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "Dummy, a model for tests" in said and "head: 12" in said and "4 wide, 3 outputs" in said
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "orbax"]) == 0
    assert jomni.load(tmp_path / "b").num_parameters() == 12


def test_a_weight_file_that_does_not_fit_is_refused_by_the_tensor(checkpoint, tmp_path):
    jomni.save(checkpoint, tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"dummy_width": 5, "dummy_outputs": 3}')
    with pytest.raises(WeightsError, match=r"proj\.weight"):
        jomni.load(tmp_path / "a")


def test_without_the_line_it_is_unknown(tmp_path):
    (tmp_path / "config.json").write_text('{"dummy_width": 5, "dummy_outputs": 3}')
    with pytest.raises(jomni.JomniError, match="dummy_width"):
        jomni.load(tmp_path)
