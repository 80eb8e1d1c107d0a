"""Any Model Can Talk, whole: a text model from nothing, then the three stages; each moves what it says it moves."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import jomni
from jomni.errors import ConfigError
from jomni.tensors.weight_map import flatten
from jomni.train.config import TrainConfig
from jomni.train.loop import train
from jomni.train.tasks.mini_omni import ADAPT, ALL
from tests.mini_omni_train_case import DECODER, PAIRS, omni_config, text_config, write_world

pytest.importorskip("pyarrow")
pytestmark = [pytest.mark.slow, pytest.mark.compiled_quickly]
ROWS = DECODER.vocab_size
EMBEDDING = "backbone/embed_tokens/weight"


def metrics(config: TrainConfig) -> list[dict]:
    path = Path(config.out) / config.name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(config: TrainConfig) -> dict[str, np.ndarray]:
    """The exported parameters by path, the table of tokens in two."""
    parts = jomni.load(Path(config.out) / config.name / "export").params
    held = flatten(parts["omni"] | {"whisper": parts["whisper"]})
    table = held.pop(EMBEDDING)
    return held | {f"{EMBEDDING}/text": table[:ROWS], f"{EMBEDDING}/new": table[ROWS:]}


def following(config: TrainConfig, name: str, **task) -> TrainConfig:
    """The stage that begins from another's export."""
    export = str(Path(config.out) / config.name / "export")
    task = {"backbone": None, "encoder_model": None, "init_from": export} | task
    return dataclasses.replace(config, name=name, task=dataclasses.replace(config.task, **task))


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """Paths whose bytes differ."""
    assert before.keys() == after.keys()
    return {path for path in before if before[path].tobytes() != after[path].tobytes()}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, TrainConfig]:
    """All four, run one after another."""
    folder = tmp_path_factory.mktemp("omni")
    write_world(folder)
    configs = {"stage0": text_config(folder), "stage1": omni_config(folder)}
    configs["stage2"] = following(configs["stage1"], "stage2", freeze=ADAPT)
    configs["stage3"] = following(configs["stage2"], "stage3", freeze=ALL, microbatches=2, ema=0.5)
    for config in configs.values():
        train(config)
    return configs


def test_every_stage_learns(stages):
    falls = {name: (metrics(config)[0], metrics(config)[-1]) for name, config in stages.items()}
    assert falls["stage0"][1]["exact"] == 1, "the text model knows all answers"
    for name, (first, last) in falls.items():
        assert last["loss"] < 0.6 * first["loss"], (name, first["loss"], last["loss"])


def test_the_text_model_comes_as_one_that_chats(stages):
    from jomni.generation.tokenizer import TextTokenizer
    from jomni.train.tasks.decoder import encode_chat

    found = jomni.load(str(Path(stages["stage0"].out) / "stage0/export"))
    tokenizer = TextTokenizer(found.files, "here")
    asked, told = PAIRS[0]
    tokens, targets = encode_chat(tokenizer._tokenizer, asked, told)
    prompt = tokenizer.encode_chat([{"role": "user", "content": asked}])
    assert tokens[: len(prompt)] == prompt and targets[-1] == tokenizer.token("<|end|>")


def test_stage_1_moves_adapter_and_new_rows_alone(stages):
    text = jomni.load(str(Path(stages["stage0"].out) / "stage0/export")).params["decoder"]
    old, new = flatten({"backbone": text}), weights(stages["stage1"])
    old[f"{EMBEDDING}/text"] = old.pop(EMBEDDING)
    assert not moved({path: np.asarray(leaf) for path, leaf in old.items()}, {path: new[path] for path in old})


def test_stage_2_moves_the_text_model_alone_and_stage_3_all_but_the_ears(stages):
    one, two, three = (weights(stages[f"stage{i}"]) for i in (1, 2, 3))
    text = {path for path in one if path.startswith("backbone/") and path != f"{EMBEDDING}/new"}
    assert moved(one, two) == text
    assert moved(two, three) == {path for path in one if not path.startswith("whisper/")}


def test_a_stage_in_two_runs_ends_with_the_same_bytes(stages):
    whole = dataclasses.replace(stages["stage1"], name="broken", steps=60)
    train(dataclasses.replace(whole, steps=30))
    train(whole)
    assert not moved(weights(stages["stage1"]), weights(whole))


def test_what_does_not_fit_together_is_refused(stages):
    task = stages["stage1"].task
    cases = (
        ({"freeze": ("backbon3",)}, "backbon3"), ({"freeze": (".*",)}, "nothing to train"),
        ({"backbone": None}, "backbone"), ({"encoder_model": None}, "encoder"), ({"freeze": ("(",)}, "regular"),
        ({"backbone": None, "encoder_model": None, "init_from": task.backbone}, "neither an export"),  # a text model
    )  # fmt: skip
    for number, (changes, told) in enumerate(cases):
        with pytest.raises(ConfigError, match=told):
            changed = dataclasses.replace(task, **changes)
            train(dataclasses.replace(stages["stage1"], name=f"refused{number}", task=changed))
