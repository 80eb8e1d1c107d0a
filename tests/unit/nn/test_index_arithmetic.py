"""Rings, delays and overlaps, for any sizes."""

import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from jomni.models.moshi.delays import delay_streams, undelay_streams
from jomni.nn.attention import KVCache, attend, attend_causally, ring_timeline, write
from jomni.nn.conv import overlap_add
from tests.cases import EAGER


@EAGER
@given(
    context=st.integers(1, 9),
    block=st.integers(1, 5),
    blocks=st.integers(1, 12),
    paused=st.integers(0, 11),
    kyutai=st.booleans(),
)
def test_ring_holds_what_each_query_may_see(context, block, blocks, paused, kyutai):
    """Writes step numbers into a ring block by block, and asks which of them each query then reads."""
    capacity = max(context, block) if kyutai else context + block - 1
    ring = jnp.full((2, 1, capacity, 1), -1.0)
    cache, offset = KVCache(ring, ring), np.zeros(2, np.int32)
    for tick in range(blocks):
        active = np.asarray([True, tick != paused])
        write_at, mask = ring_timeline(jnp.asarray(offset), block, capacity, context, jnp.asarray(active))
        steps = (offset[:, None] + np.arange(block)).astype(np.float32)[:, None, :, None]
        before = cache
        cache = write(cache, jnp.asarray(steps), jnp.asarray(steps), write_at)
        for row in np.flatnonzero(active):
            for t in range(block):
                now = offset[row] + t
                seen = set(np.asarray(cache.keys[row, 0, :, 0])[np.asarray(mask[row, t])].astype(int))
                last = offset[row] + block - 1
                oldest = max(0, now - context + 1, last - capacity + 1 if kyutai else 0)
                assert seen == set(range(oldest, now + 1))
        for row in np.flatnonzero(~active):
            assert np.array_equal(cache.keys[row], before.keys[row])
        offset += block * active


@EAGER
@given(length=st.integers(1, 30), context=st.integers(1, 12), seed=st.integers(0, 99))
def test_banded_attention_equals_the_masked_square(length, context, seed):
    rng = np.random.default_rng(seed)
    q, k, v = (jnp.asarray(rng.standard_normal((1, 2, length, 4)), jnp.float32) for _ in range(3))
    age = np.arange(length)[:, None] - np.arange(length)
    want = attend(q, k, v, jnp.asarray((age >= 0) & (age < context)))
    assert np.allclose(attend_causally(q, k, v, context), want, atol=1e-5)


@EAGER
@given(delays=st.lists(st.integers(0, 7), min_size=1, max_size=5), length=st.integers(1, 9))
def test_delays_shift_there_and_back(delays, length):
    K = len(delays)
    codes = jnp.arange(2 * K * length).reshape(2, K, length)
    delayed = np.asarray(delay_streams(codes, delays, jnp.full((K,), -9)))
    for k, delay in enumerate(delays):
        for t in range(length):
            want = np.asarray(codes[:, k, t - delay]) if t >= delay else np.full(2, -9)
            assert np.array_equal(delayed[:, k, t], want)
    back, mask = undelay_streams(jnp.asarray(delayed, jnp.float32)[..., None], delays)
    assert np.array_equal(np.asarray(mask), np.isfinite(np.asarray(back[..., 0])))
    assert np.array_equal(np.asarray(back[..., 0])[np.asarray(mask)], np.asarray(codes)[np.asarray(mask)])


@EAGER
@given(steps=st.integers(1, 6), width=st.integers(1, 9), stride=st.integers(1, 4), seed=st.integers(0, 99))
def test_overlap_add_sums_what_overlaps(steps, width, stride, seed):
    assume(width >= stride)
    spread = np.random.default_rng(seed).standard_normal((2, steps, width, 3)).astype(np.float32)
    want = np.zeros((2, (steps - 1) * stride + width, 3), np.float32)
    for t in range(steps):
        want[:, t * stride : t * stride + width] += spread[:, t]
    assert np.allclose(overlap_add(jnp.asarray(spread), stride), want, atol=1e-5)
