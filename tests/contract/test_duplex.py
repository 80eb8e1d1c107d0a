"""The duplex step: one compile, slots that do not feel each other, steering, forks."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.errors import ConfigError
from jomni.generation.controls import UNFORCED
from jomni.models.mimi.model import Mimi
from jomni.models.moshi import MoshiLM
from jomni.models.moshi import duplex as duplex_module
from jomni.models.moshi.duplex import Duplex
from jomni.models.moshi.generate import Generator, Guidance
from tests.tiny import TINY_MIMI, TINY_MOSHI, random_params

SLOTS, FRAMES = 3, 12


@cache
def model(**lm_options):
    config = dataclasses.replace(TINY_MOSHI, **lm_options)
    mimi, lm = Mimi(TINY_MIMI, config.codec_codebooks), MoshiLM(config)
    params = {
        "mimi": random_params(mimi, jnp.zeros((1, 1, TINY_MIMI.frame_size))),
        "lm": random_params(lm, jnp.zeros((1, config.n_q + 1, 2), jnp.int32)),
    }
    duplex = Duplex(mimi, Generator(lm))
    return duplex, duplex.prepare(params)


def speech(seed=0, slots=SLOTS, frames=FRAMES):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((frames, slots, 1, TINY_MIMI.frame_size)).astype(np.float32)


def talk(duplex, params, pcm, state=None, seed=0, change=lambda frame, controls: controls):
    """Runs frames [F, B, 1, S]; returns the outputs, stacked over frames, and the last state."""
    slots = pcm.shape[1]
    state = duplex.init_state(slots, seed) if state is None else state
    controls, outputs = duplex.controls(slots), []
    for frame, x in enumerate(pcm):
        state, out = duplex.step(params, state, x, change(frame, controls))
        outputs.append(jax.device_get(out))
    return jax.tree.map(lambda *xs: np.stack(xs), *outputs), state


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def row(tree, slot):
    return jax.tree.map(lambda x: np.ascontiguousarray(x[:, slot]), tree)


def test_one_compile_over_resets_pauses_and_steering():
    duplex, params = model()
    duplex_module._step_donated.clear_cache()
    rng = np.random.default_rng(0)

    def change(frame, controls):
        if frame == 0:
            return controls
        return controls._replace(
            reset=jnp.asarray(rng.random(SLOTS) < 0.3), active=jnp.asarray(rng.random(SLOTS) < 0.7),
            force_text=jnp.asarray(rng.integers(-2, 5, SLOTS), jnp.int32),
            temperature=jnp.asarray(rng.random(SLOTS), jnp.float32),
            top_k=jnp.asarray(rng.integers(0, 9, SLOTS), jnp.int32),
            text_bias=jnp.asarray(rng.standard_normal((SLOTS, 40)), jnp.float32),
            seed=jnp.asarray(rng.integers(0, 99, SLOTS), jnp.uint32),
        )  # fmt: skip

    _, state = talk(duplex, params, speech(), change=change)
    assert duplex_module._step_donated._cache_size() == 1
    fresh = duplex.init_state(SLOTS)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(lambda x: (x.shape, x.dtype), fresh)


def test_state_is_donated_and_the_undonated_form_leaves_it():
    duplex, params = model()
    pcm, controls = speech()[0], duplex.controls(SLOTS)
    state = duplex.init_state(SLOTS)
    kept, _ = duplex.step_undonated(params, state, pcm, controls)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    duplex.step(params, state, pcm, controls)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state) if leaf.size)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize("slots", [1, SLOTS])
def test_caches_are_updated_in_place(slots):
    """The step needs no copy of a cache, not even in the loop that takes a conversation's first two steps."""
    duplex, params = model(context=20_000)
    state, pcm = duplex.init_state(slots), speech(slots=slots)[0]
    step = duplex_module._step_donated.lower(duplex, params, state, pcm, duplex.controls(slots)).compile()
    caches = sum(leaf.nbytes for leaf in jax.tree.leaves(state.generator.transformer))
    memory = step.memory_analysis()
    assert memory.alias_size_in_bytes >= caches
    assert memory.temp_size_in_bytes < caches / 4, "a quarter of the caches: one leaf of the four"


def test_a_slot_does_not_feel_its_neighbours():
    duplex, params = model()
    pcm, other = speech(0), speech(1)
    other[:, 0] = pcm[:, 0]
    other[3, 1] = np.nan

    def disturb(frame, controls):
        return controls._replace(
            reset=jnp.asarray([False, frame == 4, False]), active=jnp.asarray([True, frame % 2 == 0, frame != 7]),
            temperature=jnp.asarray([0.8, 0.0, 2.0]),
        )  # fmt: skip

    alone, _ = talk(duplex, params, pcm)
    beside, _ = talk(duplex, params, other, change=disturb, seed=[0, 77, 78])
    assert same(row(alone, 0), row(beside, 0))
    assert np.isfinite(beside.pcm).all()


def test_a_reset_is_a_fresh_start_even_after_broken_audio():
    duplex, params = model()
    pcm = speech()
    fresh, _ = talk(duplex, params, pcm[5:])
    broken = pcm.copy()
    broken[:5, 1] = np.inf

    def change(frame, controls):
        return controls._replace(reset=jnp.asarray([False, frame == 5, False]))

    again, _ = talk(duplex, params, broken, change=change)
    assert same(row(jax.tree.map(lambda x: x[5:], again), 1), row(fresh, 1))


def test_a_paused_slot_does_not_move_and_is_silent():
    duplex, params = model()
    pcm = speech()
    straight, _ = talk(duplex, params, pcm)
    held = np.insert(pcm, 4, 9.0, axis=0)
    held[5:, 1] = pcm[4:, 1]

    def change(frame, controls):
        return controls._replace(active=jnp.asarray([True, frame != 4, True]))

    paused, _ = talk(duplex, params, held, change=change)
    assert not paused.pcm[4, 1].any() and paused.text[4, 1] == UNFORCED and not paused.valid[4, 1]
    assert same(row(jax.tree.map(lambda x: np.delete(x, 4, 0), paused), 1), row(straight, 1))


def test_a_conversation_can_be_saved_forked_and_resumed(tmp_path):
    duplex, params = model()
    pcm = speech()
    whole, _ = talk(duplex, params, pcm)
    _, state = talk(duplex, params, pcm[:5])
    np.savez(tmp_path / "state.npz", *jax.tree.leaves(state))
    with np.load(tmp_path / "state.npz") as saved:
        leaves = [jnp.asarray(saved[f"arr_{i}"]) for i in range(len(saved.files))]
    restored = jax.tree.unflatten(jax.tree.structure(state), leaves)
    rest, _ = talk(duplex, params, pcm[5:], state=restored)
    assert same(rest, jax.tree.map(lambda x: x[5:], whole))
    fork = jax.tree.map(lambda x: x[jnp.asarray([1, 1, 1])], state)
    forked, _ = talk(duplex, params, np.repeat(pcm[5:, 1:2], 3, 1), state=fork)
    for slot in range(3):
        assert np.array_equal(forked.codes[:, slot], whole.codes[5:, 1])


def test_seeds_decide_the_conversation():
    duplex, params = model()
    pcm = np.repeat(speech()[:, :1], SLOTS, 1)
    out, _ = talk(duplex, params, pcm, seed=[5, 5, 6])
    assert np.array_equal(out.codes[:, 0], out.codes[:, 1])
    assert not np.array_equal(out.codes[:, 0], out.codes[:, 2])

    def restart(frame, controls):
        return controls._replace(reset=jnp.full(SLOTS, frame == 0), seed=jnp.asarray([6, 5, 5], jnp.uint32))

    again, _ = talk(duplex, params, pcm, seed=0, change=restart)
    assert np.array_equal(again.codes[:, 0], out.codes[:, 2])


def test_first_user_frame_is_heard():
    """Kyutai's offline convention: the step that hears nothing is taken before the first frame."""
    duplex, params = model()
    pcm = speech()
    other = pcm.copy()
    other[0] = speech(9)[0]

    def greedy(frame, controls):
        return controls._replace(temperature=jnp.zeros(SLOTS), text_temperature=jnp.zeros(SLOTS))

    a, _ = talk(duplex, params, pcm, change=greedy)
    b, _ = talk(duplex, params, other, change=greedy)
    assert np.array_equal(a.text[0], b.text[0]), "the frame said first was decided before anything was heard"
    assert not np.array_equal(a.sampled_text, b.sampled_text)
    assert a.valid.all(), "with max_delay 1 every call gives a frame"


@pytest.mark.parametrize("delays", [(0,) * 9, (0, 0, 1, 1, 1, 0, 1, 1, 1), (1, 0, 2, 2, 3, 0, 2, 2, 3)])
def test_frames_come_max_delay_minus_one_calls_after_the_start(delays):
    duplex, params = model(delays=delays)
    out, _ = talk(duplex, params, speech())
    wait = max(max(delays) - 1, 0)
    assert not out.valid[:wait].any() and out.valid[wait:].all()
    assert not out.pcm[:wait].any() and (out.codes[:wait] == UNFORCED).all()
    ahead = max(delays) - delays[0]
    assert np.array_equal(out.text[wait + ahead :], out.sampled_text[wait : FRAMES - ahead])


def test_forced_tokens_are_taken_and_heard_by_the_model():
    duplex, params = model()
    pcm = speech()
    text = np.arange(FRAMES) % 40
    codes = (np.arange(FRAMES)[:, None] + np.arange(4)) % 32

    def force(frame, controls):
        audio = np.full((SLOTS, 4), UNFORCED, np.int32)
        audio[1] = codes[frame]
        said = jnp.asarray([text[frame], UNFORCED, UNFORCED], jnp.int32)
        return controls._replace(force_text=said, force_audio=jnp.asarray(audio))

    free, _ = talk(duplex, params, pcm)
    out, _ = talk(duplex, params, pcm, change=force)
    assert np.array_equal(out.sampled_text[:, 0], text)
    assert np.array_equal(out.text[1:, 0], text[:-1]), "heard one call later: the audio's delay"
    assert np.array_equal(out.codes[1:, 1, 1:], codes[1:, 1:]) and np.array_equal(out.codes[1:, 1, 0], codes[:-1, 0])
    assert not np.array_equal(out.codes[:, 0], free.codes[:, 0])
    assert same(row(out, 2), row(free, 2))


def test_text_bias_forbids_and_temperature_zero_is_greedy():
    duplex, params = model()
    bias = np.zeros((SLOTS, 40), np.float32)
    bias[:, 20:] = -np.inf

    def change(frame, controls):
        return controls._replace(text_bias=jnp.asarray(bias), temperature=jnp.zeros(SLOTS))

    out, _ = talk(duplex, params, speech(), change=change)
    assert out.text.max() < 20 and len(np.unique(out.text)) > 3
    zeros, ones = jnp.zeros(SLOTS), jnp.ones(SLOTS, jnp.int32)
    greedy, _ = talk(
        duplex, params, speech(), seed=9, change=lambda f, c: c._replace(temperature=zeros, text_temperature=zeros)
    )
    best, _ = talk(duplex, params, speech(), seed=3, change=lambda f, c: c._replace(top_k=ones, text_top_k=ones))
    assert np.array_equal(greedy.codes, best.codes), "the best of one is the best"


def test_forced_user_codes_replace_the_audio():
    duplex, params = model()
    pcm = speech()
    heard, _ = talk(duplex, params, pcm)

    def force(frame, controls):
        return controls._replace(force_user=jnp.asarray(heard.user_codes[frame]))

    deaf, _ = talk(duplex, params, np.zeros_like(pcm), change=force)
    assert np.array_equal(deaf.codes, heard.codes)


def test_text_only_model_gives_text_and_silence():
    duplex, params = model(n_q=4, dep_q=0, delays=(0, 0, 0, 0, 0), extra_heads_num_heads=2, depformer_multi_linear=True)
    out, state = talk(duplex, params, speech())
    assert out.codes.shape == (FRAMES, SLOTS, 0) and not out.pcm.any() and out.valid.all()
    assert state.decode == ()
    assert len(out.heads) == 2 and np.allclose(out.heads[0].sum(-1), 1, atol=1e-5)


@pytest.mark.slow
def test_guidance_of_one_changes_nothing_and_more_does():
    duplex, params = model()
    guided = dataclasses.replace(
        duplex, generator=dataclasses.replace(duplex.generator, guidance=Guidance(masked_prefix=True, no_text=True))
    )

    def coefficient(value):
        return lambda frame, c: c._replace(
            guidance=jnp.full(SLOTS, value), masked_until=jnp.full(SLOTS, 4), temperature=jnp.zeros(SLOTS),
            text_temperature=jnp.zeros(SLOTS),
        )  # fmt: skip

    plain, _ = talk(duplex, params, speech(), change=coefficient(1.0))
    one, state = talk(guided, params, speech(), change=coefficient(1.0))
    three, _ = talk(guided, params, speech(), change=coefficient(3.0))
    assert np.array_equal(plain.codes, one.codes)
    assert not np.array_equal(plain.codes, three.codes)
    assert all(leaf.shape[0] == SLOTS for leaf in jax.tree.leaves(state)), "leaves lead with the slot axis"


def test_a_codec_with_too_few_codebooks_is_refused():
    with pytest.raises(ConfigError, match=r" 4 .* 4 .* 3 "):
        Duplex(Mimi(TINY_MIMI, 3), Generator(MoshiLM(TINY_MOSHI)))
