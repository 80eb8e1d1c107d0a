"""The mean of models' parameters, in the files' dtypes; models of different configurations are refused."""

import dataclasses
import sys

import jax
import numpy as np
import pytest

import jomni
from jomni.errors import ConfigError
from tools import average
from tools.random_model import random_checkpoint


def test_the_mean_of_two_models_is_written_as_the_first(tmp_path, monkeypatch, capsys):
    for seed in (0, 5):
        jomni.save(random_checkpoint(seed), tmp_path / f"{seed}", dtype="bfloat16")
    folders = [str(tmp_path / name) for name in ("out", "0", "5")]
    monkeypatch.setattr(sys, "argv", ["average", *folders])
    average.main()
    assert "mean of 2 models" in capsys.readouterr().out
    mean, first, second = map(jomni.load, folders)
    assert (mean.configs["lm"], mean.tokenizer) == (first.configs["lm"], first.tokenizer)

    def check(mean, a, b):
        assert mean.dtype == a.dtype
        wanted = (np.asarray(a, np.float32) + np.asarray(b, np.float32)) / 2
        np.testing.assert_array_equal(np.asarray(mean), wanted.astype(mean.dtype))
        return not np.array_equal(a, b)

    moved = jax.tree.leaves(jax.tree.map(check, mean.params, first.params, second.params))
    assert np.mean(moved) > 0.9
    with pytest.raises(SystemExit) as left:
        average.main()
    assert left.value.code == 2 and "out" in capsys.readouterr().err, "what is there is not replaced"


def test_models_of_different_configurations_are_refused():
    model = random_checkpoint()
    lm = dataclasses.replace(model.configs["lm"], context=30)
    wider = dataclasses.replace(model, source="wider", configs=model.configs | {"lm": lm})
    with pytest.raises(ConfigError, match=r"^wider: 'lm' "):
        average.average([model, wider])
