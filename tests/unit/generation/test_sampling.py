"""Sampling: the distribution, top-k and top-p, and seeds per slot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jomni.generation.sampling import kth_largest, row_keys, sample
from tests.cases import EAGER


def draws(logits, temperature, top_k, count=20_000, top_p=None):
    keys = row_keys(jnp.arange(count, dtype=jnp.uint32), jnp.zeros(count, jnp.int32), 0)
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (count, len(logits)))
    share = None if top_p is None else jnp.full(count, top_p)
    tokens = jax.jit(sample)(rows, jnp.full(count, temperature), jnp.full(count, top_k, jnp.int32), keys, share)
    return np.bincount(tokens, minlength=len(logits)) / count


def test_tokens_are_sampled_by_their_probability():
    logits = np.log([0.4, 0.3, 0.15, 0.1, 0.05])
    assert np.abs(draws(logits, 1.0, 0) - np.exp(logits)).max() < 0.015
    tempered = np.exp(logits / 0.5) / np.exp(logits / 0.5).sum()
    assert np.abs(draws(logits, 0.5, 99) - tempered).max() < 0.015


def test_only_the_top_k_are_candidates():
    p = np.asarray([0.1, 0.3, 0.4, 0.15, 0.05])
    cut = np.where(p >= 0.3, p, 0)
    assert np.abs(draws(np.log(p), 1.0, 2) - cut / cut.sum()).max() < 0.015
    assert draws(np.log(p), 1.0, 1)[2] == 1


@pytest.mark.parametrize(
    ("top_p", "top_k", "kept"),
    [(0.39, 0, [2]), (0.41, 0, [1, 2]), (0.71, 0, [1, 2, 3]), (1.0, 0, [0, 1, 2, 3, 4]), (0.0, 0, [2]),
     (0.8, 3, [1, 2]), (0.83, 3, [1, 2, 3])],
)  # fmt: skip
def test_top_p_keeps_the_most_probable_of_the_top_k(top_p, top_k, kept):
    p = np.asarray([0.1, 0.3, 0.4, 0.15, 0.05])
    cut = np.where(np.isin(np.arange(5), kept), p, 0)
    assert np.abs(draws(np.log(p), 1.0, top_k, 4000, top_p) - cut / cut.sum()).max() < 0.03


def test_temperature_zero_is_greedy_and_forbidden_tokens_are_never_sampled():
    assert draws([0.0, 3.0, 2.9], 0.0, 0)[1] == 1
    assert draws([0.0, -np.inf, 0.0], 5.0, 0)[1] == 0


def test_keys_differ_by_seed_step_and_stream():
    seeds, steps = np.meshgrid(np.arange(8, dtype=np.uint32), np.arange(8, dtype=np.int32))
    data = [jax.random.key_data(row_keys(seeds.ravel(), steps.ravel(), stream)) for stream in range(4)]
    assert len(np.unique(np.concatenate(data), axis=0)) == 8 * 8 * 4


@EAGER
@given(values=hnp.arrays(np.float32, (3, 17), elements=st.floats(0, 1, width=32)), k=st.integers(1, 17))
def test_kth_largest_is_that_of_a_sort(values, k):
    want = -np.sort(-values, axis=1)[:, k - 1]
    assert np.array_equal(kth_largest(jnp.asarray(values), jnp.full(3, k)), want)
