"""Mini-Omni's batches and its loss: what is drawn, completed and refused, and what counts."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jomni
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.data.text import chat_tokenizer, read_pairs
from jomni.data.turns.batches import TaskShares, omni_dataset
from jomni.data.turns.build import spoken_turns
from jomni.data.turns.parquet import Turn, TurnSource, interleave, read_turns, write_turns
from jomni.errors import ConfigError, DataError, WeightsError
from jomni.generation.tokenizer import TextTokenizer
from jomni.models.mini_omni import Vocabulary
from jomni.models.mini_omni.streams import IGNORE, corrupt_context, speech_frames, undelay
from jomni.tensors.weight_map import flatten
from jomni.train.freeze import frozen_paths, join, split
from jomni.train.lora import LoRAConfig
from jomni.train.tasks.decoder import TextConfig, TextData
from jomni.train.tasks.mini_omni import ADAPT, ALIGN, ALL, OmniConfig, OmniModel, cut_rows, join_rows, turn_marks
from jomni.train.tasks.mini_omni_data import OmniData
from jomni.train.tasks.mini_omni_loss import OmniLossConfig, omni_counts, omni_loss
from tests.decoder_cases import params
from tests.mini_omni_case import CODEC, codec_params
from tests.mini_omni_train_case import DECODER, ENCODER, PAIRS, VOICE, codes, question
from tests.tiny import plainly

pytestmark = pytest.mark.compiled_quickly

pytest.importorskip("pyarrow")
VOCABULARY = Vocabulary(text_size=280, text_special=8, audio_size=16, audio_special=8)
TOKENIZER = chat_tokenizer((text for pair in PAIRS for text in pair), 280)["tokenizer.json"]


@pytest.fixture(scope="module")
def turns(tmp_path_factory):
    path = tmp_path_factory.mktemp("turns") / "turns.parquet"
    write_turns(path, (Turn(q, question(i), a, codes(i)) for i, (q, a) in enumerate(PAIRS)))
    return path


def batches(path, seed=0, **changes):
    options = {"lengths": (30, 16), "seconds": 0.2, "batch": 4, "shares": TaskShares()} | changes
    return omni_dataset(
        [path], numbers=VOCABULARY, audio_size=VOCABULARY.audio_size, tokenizer=TOKENIZER, seed=seed, **options
    )


def same(one, two):
    return all(np.array_equal(a[k], b[k]) for a, b in zip(one, two, strict=True) for k in a)


def test_batches_follow_from_the_seed_and_go_on_where_they_were(turns):
    dataset = batches(turns)
    iterator = iter(dataset)
    first = [next(iterator) for _ in range(3)]
    state = iterator.get_state()
    rest = [next(iterator) for _ in range(3)]
    assert same(first, itertools.islice(batches(turns), 3)) and not same(first, itertools.islice(batches(turns, 1), 3))
    again = iter(batches(turns))
    again.set_state(state)
    assert same(rest, [next(again) for _ in range(3)])


def test_a_batch_is_completed_to_the_least_length_that_holds_it(turns):
    lengths = set()
    for batch in itertools.islice(batches(turns, batch=1), 20):
        tokens, targets, pcm = batch["tokens"], batch["targets"], batch["pcm"]
        assert tokens.shape == targets.shape and pcm.shape == (1, 3200) and tokens.dtype == np.int32
        used = int(np.flatnonzero((targets != IGNORE).any((0, 1)))[-1]) + 1
        assert tokens.shape[2] == (16 if used <= 16 else 30)
        assert (tokens[:, :-1, used:] == VOCABULARY.pad_audio).all() and (tokens[:, -1, used:] == 281).all()
        lengths.add(tokens.shape[2])
    assert lengths == {16, 30}


def test_tasks_are_mixed_as_their_shares_say(turns):
    shares = TaskShares(a1_a2=3, a1_t2=0, a1_t1=0, t1_a2=0, t1_t2=1)
    found = list(itertools.islice(batches(turns, shares=shares, batch=40), 5))
    heard = np.concatenate([batch["frames"] for batch in found]) > 0
    assert 0.65 < heard.mean() < 0.85, "three in four are heard"
    for batch in found:
        listens = batch["frames"] > 0
        assert (np.abs(batch["pcm"]).max(1) > 0.1).tolist() == listens.tolist()
        assert ((batch["targets"][:, :-1] != IGNORE).any((1, 2)) == listens).all(), "only A1-A2 speaks"
    assert set(TaskShares(1, 0, 0, 0, 1).tasks().values()) == {0.5}
    with pytest.raises(ConfigError, match="'a1_a2': 0"):
        TaskShares(0, 0, 0, 0, 0)
    with pytest.raises(ConfigError, match="a1_t2 = -1"):
        TaskShares(a1_t2=-1)


def test_what_is_heard_and_said_is_that_of_the_turn(turns):
    shares = TaskShares(a1_a2=1, a1_t2=0, a1_t1=0, t1_a2=0, t1_t2=0)
    batch = next(iter(batches(turns, shares=shares, batch=6)))
    assert batch["frames"].tolist() == [speech_frames(2400, 3200)] * 6 == [8] * 6
    assert speech_frames(3200, 3200) == 10, "no more frames than the window has"
    for pcm, targets in zip(batch["pcm"], batch["targets"], strict=True):
        word = round(np.abs(np.fft.rfft(pcm[:2400])).argmax() / 2400 * 16_000 / 300) - 1
        answer = targets[:-1, 8 + 2 :]  # what follows the last step of the prompt, of 8 frames and 3
        np.testing.assert_array_equal(undelay(answer, VOCABULARY.end_of_audio), codes(word))


def test_context_corruption_changes_the_past_of_spoken_answers_and_not_what_is_to_be_said(turns):
    shares, batch = TaskShares(a1_a2=0, a1_t2=0, a1_t1=0, t1_a2=1, t1_t2=1), 12
    right, some, all_of_it = (
        next(iter(batches(turns, shares=shares, batch=batch, context_corruption=s))) for s in (0, 1e-9, 1)
    )
    assert same([right], [some])
    np.testing.assert_array_equal(right["targets"], all_of_it["targets"])
    other = right["tokens"] != all_of_it["tokens"]
    spoken = (right["targets"][:, :-1] != IGNORE).any((1, 2))
    assert not other[:, -1].any() and not other[~spoken].any() and 0 < spoken.sum() < batch
    assert other[spoken].any((1, 2)).mean() > 0.5
    # What is heard of the past is what is to be said a step before, where it is not corrupted.
    heard, said = all_of_it["tokens"][:, :-1, 1:], right["targets"][:, :-1, :-1]
    voiced = (said >= 0) & (said < VOCABULARY.audio_size)
    assert (heard[voiced] < VOCABULARY.audio_size).all() and 0.2 < (heard == said)[voiced].mean() < 1
    with pytest.raises(ConfigError, match="'context_corruption'"):
        batches(turns, context_corruption=1.5)


@given(frames=st.integers(2, 9), seed=st.integers(0, 1000))
def test_a_slip_is_one_stretch_from_elsewhere_of_the_same_codes(frames, seed):
    right = np.arange(7 * frames).reshape(7, frames)
    corrupted = corrupt_context(right, np.random.default_rng(seed))
    moved = np.flatnonzero((corrupted != right).any(0))
    assert len(moved) > 0 and moved[-1] - moved[0] == len(moved) - 1
    from_where = corrupted[0]
    assert (corrupted == right[:, from_where]).all() and len(set((from_where - np.arange(frames))[moved] % frames)) == 1


def test_a_single_frame_is_not_corrupted():
    right = np.arange(7).reshape(7, 1)
    np.testing.assert_array_equal(corrupt_context(right, np.random.default_rng(0)), right)


def test_turns_that_do_not_fit_are_told_and_left_out(turns, tmp_path):
    with pytest.raises(DataError, match=r"6 of 6 (.|\n)*row 0: .*A1-A2.* 20 steps.* 16"):
        batches(turns, lengths=(16,))
    with pytest.raises(DataError, match=r"6 of 6 (.|\n)*row 0: .*0\.1 s"):
        batches(turns, seconds=0.1)
    path = tmp_path / "mixed.parquet"
    bad = Turn("say red", question(0), "it is red", codes(0) + 100)
    write_turns(path, [bad, *(Turn(q, question(i), a, codes(i)) for i, (q, a) in enumerate(PAIRS))])
    with pytest.raises(DataError, match=r"code 107 .* 16"):
        batches(path)
    assert next(iter(batches(path, skip_bad=True, batch=6)))["tokens"].max() < 288
    batches(path, shares=TaskShares(0, 1, 1, 0, 1))  # which say nothing
    with pytest.raises(DataError, match=r"absent: .*parquet"):
        batches(tmp_path / "absent")


def test_turns_are_read_by_number_from_any_row_group(tmp_path):
    path = tmp_path / "many.parquet"
    write_turns(path, (Turn(f"q{i}", question(i % 6), f"a{i}", codes(i % 4)) for i in range(70)))
    source = TurnSource([read_turns(path), read_turns(path)])
    assert len(source) == 140
    assert [source[i].question for i in (69, 0, 70, 139, 64)] == ["q69", "q0", "q0", "q69", "q64"]


def test_own_text_becomes_turns_with_any_synthesiser():
    def voice(text):
        return np.full(100, 0.1 * len(text), np.float32), 8000

    made = list(spoken_turns([("abc", "de")], voice, voice, lambda pcm, rate: [[1], [2, 3], [4, 5, 6, 7]]))
    np.testing.assert_array_equal(made[0].answer_codes, [[1], [2], [4], [5], [3], [6], [7]])
    np.testing.assert_allclose(made[0].question_at(8000), np.full(100, 0.3), atol=1e-4)
    assert made[0].question_at(16_000).shape == (200,)
    with pytest.raises(DataError, match=r"\[1, 2\]"):
        interleave([[1], [2, 3]])
    with pytest.raises(DataError, match=r"float64 \[0\] .*'a'"):
        next(spoken_turns([("a", "b")], lambda text: (np.zeros(0), 8000), voice, lambda pcm, rate: []))


def test_lines_that_are_no_pairs_are_told(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\nc\n\td\n")
    with pytest.raises(DataError, match=r"pairs\.tsv: .*2 of 3 .*\[2, 3\]"):
        read_pairs(path)


LOSS = jax.jit(omni_loss, static_argnums=0)


def case():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, (4, 3, 6)).astype(np.int32)
    targets[rng.random(targets.shape) < 0.4] = IGNORE
    return rng.normal(size=(4, 6, 7)), rng.normal(size=(4, 6, 2, 5)), targets


def test_the_loss_is_each_streams_mean_over_what_there_is_to_predict():
    text, audio, targets = case()
    weights = OmniLossConfig(text_weight=2.0, audio_weight=0.5, stream_weights=(3.0, 1.0))

    def mean(logits, target):
        logs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.maximum(target, 0)[..., None], -1)[..., 0]
        return -logs[target != IGNORE].mean()

    each = [mean(audio[:, :, i], targets[:, i]) for i in range(2)]
    loss, metrics = LOSS(weights, text, audio, targets, omni_counts(targets))
    np.testing.assert_allclose(metrics["text_loss"], mean(text, targets[:, 2]), rtol=1e-5)
    np.testing.assert_allclose([metrics["audio_loss_0"], metrics["audio_loss_1"]], each, rtol=1e-5)
    np.testing.assert_allclose(metrics["audio_loss"], (3 * each[0] + each[1]) / 4, rtol=1e-5)
    np.testing.assert_allclose(loss, 2 * metrics["text_loss"] + 0.5 * metrics["audio_loss"], rtol=1e-5)
    there = targets[:, 2] != IGNORE
    np.testing.assert_allclose(metrics["text_accuracy"], (text.argmax(-1) == targets[:, 2])[there].mean(), rtol=1e-6)


def test_shares_of_microbatches_add_up_and_silence_costs_nothing():
    text, audio, targets = case()
    whole = LOSS(OmniLossConfig(), text, audio, targets, omni_counts(targets))
    parts = [LOSS(OmniLossConfig(), text[i : i + 2], audio[i : i + 2], targets[i : i + 2], omni_counts(targets))
             for i in (0, 2)]  # fmt: skip
    jax.tree.map(lambda w, a, b: np.testing.assert_allclose(w, a + b, rtol=1e-5), whole, *parts)
    targets[:, :-1] = IGNORE
    loss, metrics = LOSS(OmniLossConfig(), text, audio, targets, omni_counts(targets))
    assert loss == metrics["text_loss"]
    assert {name for name, value in metrics.items() if np.isnan(value)} == {
        "audio_loss", "audio_loss_0", "audio_loss_1", "audio_accuracy"
    }  # fmt: skip


def test_patterns_say_what_stays_and_tables_are_cut_and_joined():
    layer = {"w": jnp.ones(2)}
    table = jnp.arange(30.0).reshape(10, 3)
    params = {
        "whisper": layer, "whisper_adapter": layer, "post_adapter": {"lm_head": {"weight": table}},
        "backbone": {"embed_tokens": {"weight": table}, "lm_head": {"weight": table + 1}, "layers_0": layer},
    }  # fmt: skip
    cut = cut_rows(params, dataclasses.replace(VOCABULARY, text_size=7))
    jax.tree.map(np.testing.assert_array_equal, join_rows(cut), params)
    new = {"backbone/embed_tokens/weight/new", "backbone/lm_head/weight/new"}
    adapters = {"whisper_adapter/w", "post_adapter/lm_head/weight"}
    text = {"backbone/embed_tokens/weight/text", "backbone/lm_head/weight/text", "backbone/layers_0/w"}
    assert cut["backbone"]["embed_tokens"]["weight"]["new"].shape == (3, 3)
    assert frozen_paths(cut, ALIGN) == text | {"whisper/w"}
    assert frozen_paths(cut, ADAPT) == new | adapters | {"whisper/w"}
    moving, still = split(cut, lambda path: path not in new)
    assert len(jax.tree.leaves(still)) == 2
    jax.tree.map(np.testing.assert_array_equal, join(moving, still), cut)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A text decoder's folder."""
    folder = tmp_path_factory.mktemp("text") / "model"
    files = chat_tokenizer((text for pair in PAIRS for text in pair), DECODER.vocab_size)
    made = {"decoder": params(DECODER)}
    jomni.save(Checkpoint("decoder", {"decoder": DECODER}, made, model_type="qwen2", files=files), folder)
    return folder


def test_marks_of_a_turn_are_found_in_the_chat_template():
    files = chat_tokenizer((text for pair in PAIRS for text in pair), 280)
    v, tokenizer = VOCABULARY, TextTokenizer(files, "here")
    ask, answer, end = (tokenizer.token(text) for text in ("<|user|>", "<|assistant|>", "<|end|>"))
    found = {v.input_text: [ask], v.answer_text: [answer], v.end_of_text: [end]}
    assert None not in (ask, answer, end) and turn_marks(tokenizer, v) == found

    of_several = "<|system|>grey<|end|><|user|>red{{ messages[0].content }}<|end|>red<|assistant|>"
    files["chat_template.jinja"] = of_several.encode()
    red = tokenizer.encode("red", special=False)
    found |= {v.input_text: [ask, *red], v.answer_text: [*red, answer]}
    assert turn_marks(TextTokenizer(files, "here"), v) == found
    assert turn_marks(TextTokenizer({"tokenizer.json": files["tokenizer.json"]}, "here"), v) == {}


def test_a_backbone_is_given_marks_that_mean_what_its_template_means(backbone, turns):
    config = OmniConfig(
        data=OmniData((str(turns),), lengths=(30,), seconds=0.2), backbone=str(backbone), encoder_model=ENCODER,
        voice=VOICE,
    )  # fmt: skip
    task = config.build(1)
    rows = task.start(jax.random.key(0))["backbone"]["embed_tokens"]["weight"]
    for name, token in (("<|end|>", "end_of_text"), ("<|user|>", "input_text"), ("<|assistant|>", "answer_text")):
        known = rows["text"][TextTokenizer(task.model.files, "here").token(name)]
        np.testing.assert_array_equal(rows["new"][getattr(VOCABULARY, token) - VOCABULARY.end_of_text], known)


@pytest.mark.slow
def test_what_is_drawn_follows_from_the_runs_seed(backbone, turns):
    config = OmniConfig(
        data=OmniData((str(turns),), lengths=(30,), seconds=0.2), backbone=str(backbone), encoder_model=ENCODER,
        voice=dataclasses.replace(VOICE, post_adapter_layers=1), freeze=(*ALL, "backbone/.*/new$"),
    )  # fmt: skip
    task = config.build(1)

    def begun(seed, task):
        key = jax.random.key(seed)
        state = task.warm_start(task.init(key), key)
        leaves = flatten(jax.device_get(join(state.params, state.frozen)))
        return {path: leaf.tobytes() for path, leaf in leaves.items()}

    one, again, other = begun(1, task), begun(1, config.build(9)), begun(2, task)
    assert one == again, "a resumed run draws what is frozen again"
    differ = {path for path in one if one[path] != other[path]}
    new = "backbone/embed_tokens/weight/new"
    assert {new, "whisper_adapter/proj/weight", "post_adapter/lm_head/weight"} < differ
    assert {path for path in differ if path.startswith("backbone/")} == {new}, "the text model is as it was"


def test_a_damaged_tokenizer_is_told_with_the_option_that_names_it(backbone, turns, tmp_path):
    for path in backbone.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BP')
    data = OmniData((str(turns),), lengths=(30,), seconds=0.2)
    for option, config in (
        ("backbone", OmniConfig(data=data, backbone=str(tmp_path), encoder_model=ENCODER, voice=VOICE)),
        ("tokenizer", TextConfig(data=TextData("absent"), model=DECODER, tokenizer=str(tmp_path))),
    ):
        with pytest.raises(WeightsError, match=rf"^'{option}' {tmp_path}: .*tokenizer.json"):
            config.build(1)


def test_low_rank_adapters_train_in_place_of_the_backbone_and_are_exported_added_in(backbone, turns, tmp_path):
    config = OmniConfig(
        data=OmniData((str(turns),), lengths=(30,), seconds=0.2), backbone=str(backbone), encoder_model=ENCODER,
        voice=VOICE, lora=LoRAConfig(rank=2, scaling=0.5), remat=True, ema=0.5, batch=2,
    )  # fmt: skip
    task = config.build(10)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    moving = set(flatten(shapes.params))
    assert "backbone/embed_tokens/weight/new" in moving and "backbone/layers_0/mlp/up_proj/lora_A" in moving
    assert {path.split("/")[0] for path in moving} == {"backbone", "whisper_adapter"}
    of_text = [path for path in moving if path.startswith("backbone/")]
    assert of_text and all("/lora_" in path or path.endswith("/new") for path in of_text)

    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    batch = next(iter(task.dataset(0)))
    after, metrics = jax.eval_shape(task.update, state, batch, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(state) and "audio_loss_6" in metrics
    task.export(state, tmp_path / "export")
    held = jomni.load(tmp_path / "export")
    model, found = (
        OmniModel(held.configs["omni"], held.configs["whisper"], held.files),
        flatten(held.params["omni"]),
    )
    assert model == task.model and not any("lora" in path for path in flatten(held.params))
    path, parts = "backbone/layers_0/mlp/up_proj", flatten(join(state.ema, state.frozen))
    added = 0.5 * parts[f"{path}/lora_B"] @ parts[f"{path}/lora_A"]
    np.testing.assert_allclose(found[f"{path}/weight"], parts[f"{path}/weight"] + added, rtol=1e-5, atol=1e-5)


def test_the_codec_is_exported_along_and_handed_on_from_stage_to_stage(backbone, turns, tmp_path):
    voice = {"snac": codec_params()}
    jomni.save(Checkpoint("snac", {"snac": CODEC}, voice), tmp_path / "voice")
    one = OmniConfig(
        data=OmniData((str(turns),), lengths=(30,), seconds=0.2), backbone=str(backbone), encoder_model=ENCODER,
        voice=VOICE, codec=str(tmp_path / "voice"),
    )  # fmt: skip
    export = {"backbone": None, "encoder_model": None, "codec": None, "init_from": str(tmp_path / "one")}
    for name, config in (("one", one), ("two", dataclasses.replace(one, **export))):
        task = config.build(1)
        state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(task.init, jax.random.key(0)))
        task.export(state, tmp_path / name)
    held = jomni.load(tmp_path / "two")
    assert held.configs["snac"] == CODEC and held.params.keys() == {"omni", "whisper", "snac"}
    for path, leaf in flatten(held.params["snac"]).items():
        np.testing.assert_array_equal(leaf, flatten(voice["snac"])[path], err_msg=path)
    with pytest.raises(ConfigError, match=r"^'codec' .*SNAC"):
        dataclasses.replace(one, codec=str(backbone)).build(1)
    with pytest.raises(ConfigError, match=r"'codec' .* 7 .* 16 .* 7 .* 15"):
        dataclasses.replace(one, voice=dataclasses.replace(VOICE, audio_size=15)).build(1)


@pytest.mark.parametrize("stage", ["ALIGN", "ADAPT", "ALL"])
def test_each_stage_trains_its_parts_of_the_model_and_no_others(backbone, turns, stage):
    config = OmniConfig(
        data=OmniData((str(turns),), lengths=(30,), seconds=0.2), backbone=str(backbone), encoder_model=ENCODER,
        voice=VOICE, freeze={"ALIGN": ALIGN, "ADAPT": ADAPT, "ALL": ALL}[stage],
    )  # fmt: skip
    state = jax.eval_shape(config.build(1).init, jax.random.key(0))
    moving, still = (set(flatten(tree)) for tree in (state.params, state.frozen))
    new = {"backbone/embed_tokens/weight/new"}
    adapter = {f"whisper_adapter/{name}/weight" for name in ("fc_1", "fc_2", "proj")}
    text = {path for path in moving | still if path.startswith("backbone/")} - new
    assert moving == {"ALIGN": adapter | new, "ADAPT": text, "ALL": adapter | new | text}[stage]
    assert len(text) > 10 and {path for path in still if path.startswith("whisper/")}


@pytest.mark.slow
def test_where_no_task_speaks_or_listens_the_loss_is_the_same_and_only_it_is_computed(backbone, turns):
    silent = TaskShares(a1_a2=0, a1_t2=1, a1_t1=1, t1_a2=0, t1_t2=1)
    deaf = TaskShares(a1_a2=0, a1_t2=0, a1_t1=0, t1_a2=1, t1_t2=1)
    head, ears = f"tensor<8x30x{7 * VOCABULARY.padded_audio_size}xf32>", f"tensor<8x10x{ENCODER.n_audio_state}xf32>"

    def build(shares):
        data = OmniData((str(turns),), shares, lengths=(30,), seconds=0.2)
        return OmniConfig(data=data, backbone=str(backbone), encoder_model=ENCODER, voice=VOICE, freeze=ALIGN).build(1)

    params = build(TaskShares()).init_params(jax.random.key(0))
    for shares, parts in ((silent, (False, True)), (deaf, (True, False))):
        batch, losses = next(iter(build(shares).dataset(0))), []
        for task, computed in ((build(shares), parts), (build(TaskShares()), (True, True))):
            run = plainly(lambda p, b, task=task: task.loss(p, b, omni_counts(b["targets"]), jax.random.key(0))[1])
            program = run.lower(params, batch).as_text()
            assert (head in program, ears in program) == computed
            losses.append(run(params, batch))
        for name, value in losses[0].items():
            np.testing.assert_allclose(value, losses[1][name], rtol=1e-5, err_msg=name)


def test_a_model_and_its_options_fit_together(backbone, turns):
    config = OmniConfig(
        data=OmniData((str(turns),), lengths=(30,), seconds=0.3), backbone=str(backbone), encoder_model=ENCODER,
        voice=VOICE, batch=2,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"'seconds' = 0\.3 .*0\.2 s"):
        config.build(1).dataset(0)
    with pytest.raises(ConfigError, match=r"loss.stream_weights .* 2 .* 7"):
        dataclasses.replace(config, loss=OmniLossConfig(stream_weights=(1.0, 2.0))).build(1)
    with pytest.raises(ConfigError, match=r"'encoder' .*Whisper"):
        dataclasses.replace(config, encoder_model=None, encoder=str(backbone)).build(1)
