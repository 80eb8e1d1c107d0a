"""Self-rollout: what a model says of itself when text and user are given, its folders, and training on it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jomni.data import lm_dataset
from jomni.data.conversations import tokenize
from jomni.data.conversations.alignment import Alignment, Pieces, align, lead_words
from jomni.data.conversations.codes import Conversation, decode_record, encode_record, read_header
from jomni.data.conversations.self_rollout import RolloutModel, self_rollout_folder
from jomni.data.conversations.tokenize import plan_tokenization, read_shard
from jomni.data.text import train_tokenizer
from jomni.errors import ConfigError, DataError
from jomni.models.moshi import MoshiLM
from jomni.models.moshi.generate import Generator, SamplingDefaults
from jomni.models.moshi.self_rollout import self_rollout
from jomni.train.tasks.moshi import LMConfig
from jomni.train.tasks.moshi_data import ConversationData
from tests.tiny import TINY_MOSHI, random_params
from tests.unit.data.cases import WORDS, conversations, encoder
from tests.unit.data.recordings.test_segments import take

pytestmark = pytest.mark.compiled_quickly

TOKENIZER = train_tokenizer(WORDS)
ALIGNMENT = Alignment(keep_and_shift=True, lead=2)
OPTIONS = {
    "tokenizer": TOKENIZER, "agent_codebooks": 3, "user_codebooks": 2, "frames": 25, "batch": 4, "seed": 1,
    "alignment": ALIGNMENT,
}  # fmt: skip


def test_a_self_rollout_says_what_training_finds_most_probable_after_it():
    config = dataclasses.replace(
        TINY_MOSHI, delays=(0, 0, *[1] * (TINY_MOSHI.dep_q - 1), 0, *[1] * 99)[: TINY_MOSHI.n_q + 1]
    )
    lm, rng = MoshiLM(config), np.random.default_rng(2)
    params = random_params(lm, jnp.zeros((1, config.n_q + 1, 4), jnp.int32))
    text = [rng.choice([0, 3, 3, 7, 11], n).astype(np.int32) for n in (70, 33)]
    text[1][20:23] = -1  # no text, the model writes its own
    user = [rng.integers(0, config.card, (config.user_q + 1, len(t))).astype(np.uint16) for t in text]
    generator = Generator(lm, defaults=SamplingDefaults(temperature=0.0, text_temperature=0.0))
    said = self_rollout(generator, params, text, user)
    assert [codes.shape for codes in said] == [(config.dep_q, 70), (config.dep_q, 33)]
    checked = 0
    for tokens, own, heard in zip(text[:1], said[:1], user[:1], strict=True):
        codes = np.concatenate([tokens[None], own, heard[: config.user_q]]).astype(np.int32)[None]
        delayed = lm.apply({}, jnp.asarray(codes), method="delay")
        logits = lm.apply({"params": params}, delayed, method="delayed_logits")
        for k in range(config.dep_q):
            first = config.delays[1 + k]
            told = np.asarray(logits.audio[k].argmax(-1))[0, first:]
            np.testing.assert_array_equal(told, np.asarray(delayed)[0, 1 + k, first:])
            checked += len(set(told))
    assert checked > 3 * config.dep_q, "the model says more than one thing"
    alone = self_rollout(generator, params, text[1:], user[1:])
    np.testing.assert_array_equal(alone[0], said[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("codes")
    tokenize.tokenize(plan_tokenization(conversations(base / "corpus"), base / "out", encoder(), shard_size=3))
    return base / "out"


def held(folder) -> list[Conversation]:
    return [c for path in sorted(folder.glob("*.array_record")) for c in read_shard(path)]


def parrot(calls: list, fail_at: int | None = None) -> RolloutModel:
    """A model that says the user's first code and the text, in two codebooks."""

    def say(text, user, seed):
        if fail_at == len(calls):
            raise KeyboardInterrupt
        calls.append(seed)
        return [np.stack([codes[0], tokens + 1]).astype(np.uint16) for tokens, codes in zip(text, user, strict=True)]

    return RolloutModel(say, "parrot", Pieces(TOKENIZER), ALIGNMENT, batch=2)


def test_rolled_out_folders_hold_the_models_part_beside_the_recorded_one(folder, tmp_path):
    calls, told = [], []
    with pytest.raises(KeyboardInterrupt):
        self_rollout_folder(folder, tmp_path / "own", parrot([], fail_at=3))
    with pytest.raises(DataError, match=rf"^{tmp_path}/own: .*'jomni"):
        read_header(tmp_path / "own")
    header = self_rollout_folder(folder, tmp_path / "own", parrot(calls), progress=told.append)
    assert len(calls) == 3, "the first shard, of two batches, is not made again"
    assert len(set(calls)) == 3 and sum(told) == pytest.approx(header.hours * 3600)
    for before, after in zip(held(folder), held(tmp_path / "own"), strict=True):
        text = align(lead_words(before.words, ALIGNMENT), before.frames, Pieces(TOKENIZER), ALIGNMENT)
        np.testing.assert_array_equal(after.own, np.stack([before.user[0], text + 1, before.agent[2]]))
        np.testing.assert_array_equal(after.agent, before.agent)
        np.testing.assert_array_equal(after.user, before.user)
        assert (after.words, after.meta, after.name) == (before.words, before.meta, before.name)
    with pytest.raises(DataError, match=rf"^{tmp_path}/own: .*self-rollout"):
        self_rollout_folder(folder, tmp_path / "own", parrot([]), seed=1)
    again = self_rollout_folder(tmp_path / "own", tmp_path / "again", parrot([]), seed=1)
    assert again.codec == header.codec and again.own != header.own


def test_records_with_own_codes_come_back_and_damaged_ones_are_noticed():
    rng = np.random.default_rng(0)
    agent, user, own = (rng.integers(0, 2**16, (k, 5), np.uint16) for k in (3, 2, 3))
    record = encode_record(Conversation("x", agent, user, own=own))
    back = decode_record(record)
    for found, wanted in ((back.agent, agent), (back.user, user), (back.own, own)):
        np.testing.assert_array_equal(found, wanted)
    for damaged in (record[:-2], record + b"xx", record[: -2 * own.size]):
        with pytest.raises(DataError, match=r"record.* \d+ bytes"):
            decode_record(damaged)
    with pytest.raises(DataError, match=r"\[2, 5\].*\[3, 5\]"):
        encode_record(Conversation("x", agent, user, own=own[:2]))


def test_a_share_of_the_windows_hears_the_models_part(folder, tmp_path):
    self_rollout_folder(folder, tmp_path / "own", parrot([]))
    recorded = take(lm_dataset(tmp_path / "own", **OPTIONS), 8)
    counts = {}
    for share in (0.5, 1.0):
        found = take(lm_dataset(tmp_path / "own", **OPTIONS, own_share=share), 8)
        rows = [(c, o) for batch in found for c, o in zip(batch["codes"], batch["own"], strict=True)]
        counts[share] = sum((o != c[1:4]).any() for c, o in rows)
        for codes, own in rows:
            if (own != codes[1:4]).any():
                np.testing.assert_array_equal(own[0], codes[4])
                np.testing.assert_array_equal(own[2], codes[3])
            assert ((own < 0) == (codes[1:4] < 0)).all()
        assert "own" not in recorded[0]
    assert counts[1.0] == 32 and 8 < counts[0.5] < 24
    same = take(lm_dataset(folder, **OPTIONS, own_share=1.0), 2)  # nobody has rolled_out these
    for batch in same:
        np.testing.assert_array_equal(batch["own"], batch["codes"][:, 1:4])
    words = take(lm_dataset(folder, **OPTIONS, own_share=1.0, text=["three plus"], text_share=1.0), 1)[0]
    assert (words["own"] == -1).all() and words["own"].shape == (4, 3, 25)
    with pytest.raises(ConfigError, match="own_share"):
        lm_dataset(folder, **OPTIONS, own_share=1.5)


def test_training_hears_the_own_past_and_learns_the_recorded_part():
    config = LMConfig(data=ConversationData(()), model=TINY_MOSHI, batch=2)
    task, rng = config.build(1), np.random.default_rng(0)
    codes = rng.integers(0, TINY_MOSHI.card, (2, TINY_MOSHI.n_q + 1, 9)).astype(np.int32)
    own = rng.integers(0, TINY_MOSHI.card, (2, TINY_MOSHI.dep_q, 9)).astype(np.int32)
    rows = task.rows({"codes": jnp.asarray(codes), "own": jnp.asarray(own)}, None)
    lm, past = MoshiLM(TINY_MOSHI), codes.copy()
    past[:, 1 : 1 + TINY_MOSHI.dep_q] = own
    np.testing.assert_array_equal(rows.delayed, lm.apply({}, jnp.asarray(codes), method="delay"))
    np.testing.assert_array_equal(rows.past, lm.apply({}, jnp.asarray(past), method="delay"))
    assert task.rows({"codes": jnp.asarray(codes)}, None).past is None
