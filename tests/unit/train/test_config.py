"""Configurations of training: read, overridden by dotted names, kept with the run, refused with the cure."""

import dataclasses
import json
import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jomni.errors import ConfigError
from jomni.train.config_files import named_configs, read_config
from jomni.train.lora import LoRAConfig
from jomni.train.overrides import fields, override, shown
from jomni.train.run_config import keep_config
from jomni.train.tasks.audio_losses import SpectralConfig
from jomni.train.tasks.mini_omni import ADAPT, ALIGN
from tests import train_case


@pytest.fixture
def config():
    return train_case.get_config()


def test_nested_fields_are_overridden_with_their_types(config):
    changed = override(
        config,
        ["--steps", "7", "--task.optimizer.lr=1e-4", "--task.model.context", "none", "--tensorboard", "true",
         "--task.model.delays", "0,0,2,0,2", "--task.dtype", "bfloat16"],
    )  # fmt: skip
    assert (changed.steps, changed.task.optimizer.lr, changed.task.model.context) == (7, 1e-4, None)
    assert (changed.tensorboard, changed.task.model.delays, changed.task.dtype) == (True, (0, 0, 2, 0, 2), "bfloat16")
    assert changed.task.batch == config.task.batch


def test_fields_that_belong_together_are_set_together(config):
    changed = override(config, ["--task.model.n_q", "3", "--task.model.delays", "0,0,1,0"])
    assert changed.task.model.n_q == 3


@dataclasses.dataclass(frozen=True)
class Lists:
    """Fields of every form that lists have in configurations."""

    texts: tuple[str, ...] = ()
    none: tuple[str, ...] | None = None
    whole: int | tuple[int, ...] = 0
    pair: tuple[float, float] | None = None


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (",".join(ADAPT), ADAPT),
        (",".join(ALIGN), ALIGN),
        ("encoder/layers_[0-3]", ["encoder/layers_[0-3]"]),
        ("quantizer/rvq_rest/layers_(0|1)", ["quantizer/rvq_rest/layers_(0|1)"]),
        ("x{1,2}y", ["x{1,2}y"]),
        ("turns (1)", ["turns (1)"]),
        (r"a\(,b[(],c[)],d", [r"a\(", "b[(]", "c[)]", "d"]),
        ("(a,b", ["(a", "b"]),
        ("a,b)", ["a", "b)"]),
        ("(a, [b,c] ,)", ["a", "[b,c]"]),
        ("(a)/,(b)/", ["(a)/", "(b)/"]),
        ("it's,that's", ["it's", "that's"]),
        ("""["a,b", 'c)', d]""", ["a,b", "c)", "d"]),
        ("""('say "(",', "it's", "")""", ['say "(",', "it's", ""]),
        (r'["\d{1,2}", "a\"b\\"]', [r"\d{1,2}", 'a"b\\']),
        ('["a"', ['["a"']),
        (" [ ] ", []),
        ("", []),
    ],
)
def test_a_list_is_taken_apart_at_its_own_commas_alone(text, items):
    assert override(Lists(), ["--texts", text]).texts == tuple(items)


TEXTS = st.lists(st.text("abn\\,()[]{} \"'|_\n") | st.text() | st.just("none")).map(tuple)


WHOLE, PAIR = st.integers() | st.lists(st.integers()).map(tuple), st.tuples(st.floats(-9, 9), st.just(0.5))


@given(config=st.builds(Lists, TEXTS, st.none() | TEXTS, WHOLE, PAIR))
@example(config=Lists(ADAPT, ALIGN, (1,), (1e-30, 2.0)))
@example(config=Lists(("none",), ("none",), (), (0.0, 1.0)))
def test_what_is_shown_of_a_list_is_read_as_the_same(config):
    arguments = [f"--{name}={text}" for name, _, text, *_ in fields(config)]
    assert override(Lists(), arguments) == config


def test_a_list_is_shown_as_plainly_as_it_can_be():
    assert [text for _, _, text, *_ in fields(Lists(ADAPT, (), (3,), (1.0, 2.0)))] == [
        ",".join(ADAPT), "", "[3]", "1.0,2.0",
    ]  # fmt: skip
    assert shown(("a,b", 'c"'), tuple[str, ...]) == r"""["a,b", "c\""]"""


def test_an_absent_group_is_made_from_its_defaults(config):
    changed = override(config, ["--task.lora.rank", "4", "--task.init_from", "somewhere", "--task.model", "none"])
    assert changed.task.lora == LoRAConfig(rank=4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task.optimizr.lr", "1"], "--task.optimizr: .*--task.optimizer.lr"),
        (["--lr", "1"], "^--lr: .*--task.optimizer.lr"),
        (["--task.optimizer.lr", "fast"], "--task.optimizer.lr: 'fast'"),
        (["--steps", "1.5"], "--steps: '1.5'"),
        (["--tensorboard", "1"], "--tensorboard: '1'"),
        (["--task.dtype", "int8"], "--task.dtype: 'int8' .*float32, bfloat16"),
        (["--task", "x"], "^--task: .*--task.batch"),
        (["--task.lora.rank", "4", "--task.lora", "none"], "^--task.lora: "),
        (["--task.lora", "none", "--task.lora.rank", "4"], "^--task.lora.rank: .*'lora'"),
        (["--steps"], "^--steps: "),
        (["7"], "^'7' "),
        (["--task.optimizer.schedule", "step"], "'schedule' = 'step' .*constant, cosine, linear"),
        (["--task.microbatches", "3"], " 8 .* 3 "),
        (["--task.model.n_q", "3"], "--task.model.n_q: 'delays' .* 4 .* 5"),
        (["--seed", "-1"], r"--seed: 'seed' .*4294967296.* -1"),
        (["--seed", "4294967296"], "--seed: 'seed' .* 4294967296.* 4294967296"),
    ],
)
def test_a_mistake_is_refused_with_its_cure(config, arguments, said):
    with pytest.raises(ConfigError, match=said):
        override(config, arguments)


def test_the_largest_seed_is_one_of_its_own(config):
    assert override(config, ["--seed", "4294967295"]).seed == 2**32 - 1


@pytest.mark.parametrize("sizes", [(), (64, 6), (64, 0), (-4,), (2,)])
def test_windows_that_have_no_quarters_are_refused(sizes):
    with pytest.raises(ConfigError, match=rf"'sizes' .* 4.* {re.escape(str(sizes))}"):
        SpectralConfig(sizes=sizes)


def test_every_field_has_a_type_and_most_a_comment(config):
    listed = {name: (kind, value, comment) for name, kind, value, comment, _ in fields(config)}
    assert listed["task.optimizer.lr"] == ("float", "0.01", "peak learning rate")
    assert listed["steps"][2] == "total number of updates"
    bare = [name for name, (_, _, comment) in listed.items() if not comment and not name.startswith("task.model.")]
    assert bare == ["task.optimizer.eps"]


@pytest.mark.parametrize("path", named_configs().values(), ids=named_configs())
def test_the_help_of_every_configuration_says_what_its_fields_are(path):
    bare = [name for name, _, _, comment, _ in fields(read_config(path)) if not comment]
    assert not [name for name in bare if not name.startswith("task.model.") and not name.endswith("optimizer.eps")]


def learnt(folder):
    """A folder in which there is a checkpoint."""
    (folder / "checkpoints/4").mkdir(parents=True)
    return folder


def test_a_run_goes_on_only_with_its_own_configuration(config, tmp_path):
    keep_config(config, learnt(tmp_path))
    assert keep_config(dataclasses.replace(config, steps=99, log_every=1), tmp_path) == []
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 99
    with pytest.raises(ConfigError, match=r"task\.batch: 8 .*16"):
        keep_config(override(config, ["--task.batch", "16"]), tmp_path)
    keep_config(override(config, ["--task.codec", "nano", "--task.temperature", "0.5"]), tmp_path)  # exported alone


def test_what_the_optimiser_does_from_now_on_may_change_and_is_told(config, tmp_path):
    keep_config(config, learnt(tmp_path))
    told = keep_config(override(config, ["--task.optimizer.lr", "1.0"]), tmp_path)
    assert told == ["task.optimizer.lr is 1.0, not 0.01"]
    with pytest.raises(ConfigError, match=r"task\.optimizer\.b1: 0\.9 .*0\.5"):
        keep_config(override(config, ["--task.optimizer.b1", "0.5"]), tmp_path)


def test_where_nothing_was_learnt_a_mistake_may_be_corrected(config, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    keep_config(override(config, ["--task.batch", "7"]), tmp_path)
    assert keep_config(config, tmp_path) == []
    assert json.loads((tmp_path / "config.json").read_text())["task"]["batch"] == 8


def test_a_run_of_before_a_field_was_added_goes_on_with_its_default_alone(config, tmp_path):
    keep_config(config, learnt(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())
    del written["task"]["depth_share"], written["task"]["optimizer"]["eps"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=r"task\.depth_share: 1\.0 .*0\.5"):
        keep_config(override(config, ["--task.depth_share", "0.5"]), tmp_path)
    keep_config(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["task"]["depth_share"] == 1.0


@pytest.mark.parametrize("group, value", [("task", 3), ("task", None), ("mesh", 2)])
def test_a_run_with_a_field_that_is_unknown_now_is_refused_by_its_name(config, tmp_path, group, value):
    keep_config(config, learnt(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())
    written[group]["former"] = value
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=rf"{group}\.former: {value} "):
        keep_config(config, tmp_path)


def test_a_configuration_may_import_those_beside_it(tmp_path):
    for name, steps in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "beside.py").write_text(f"STEPS = {steps}")
        (tmp_path / name / "config.py").write_text(
            "from beside import STEPS\nfrom jomni.configs.tiny_lm import get_config as base\nimport dataclasses\n"
            "def get_config(): return dataclasses.replace(base(), steps=STEPS)"
        )
    assert [read_config(tmp_path / name / "config.py").steps for name in ("a", "b")] == [3, 4]
    assert str(tmp_path / "a") not in sys.path and "beside" not in sys.modules


@pytest.mark.parametrize("name", named_configs())
def test_every_configuration_that_comes_with_jomni_is_read_by_name_and_by_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(name)
    assert config == read_config(named_configs()[name]) and config.name.endswith(name.split("/")[-1])


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"nano/ml.*nano/lm.*tiny_lm"):
        read_config("nano/ml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = 1", "config.py: .*get_config.*TrainConfig"),
        ("def get_config(): return 3", r"config.py: get_config\(\) .*int"),
        ("import nothing_such", "config.py: .*ModuleNotFoundError"),
        ("def get_config(:", "config.py: .*SyntaxError"),
        (None, "config.py: .*tiny_lm"),
    ],
)
def test_a_file_without_a_configuration_is_refused(tmp_path, content, said):
    path = tmp_path / "config.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_config(path)
