"""`jomni train` at the command line: help, mistakes, a run."""

import platform
import subprocess
import sys

import pytest

from jomni.cli.main import MISTAKE, OK, main
from tests.train_case import __file__ as CASE


def test_help_of_a_configuration_lists_its_fields(capsys):
    assert main(["train", CASE, "--task.optimizer.lr", "0.5", "--help"]) == OK
    said = capsys.readouterr().out
    assert "--task.optimizer.lr float = 0.5\n    peak learning rate" in said
    assert "--task.model.delays tuple[int, ...] = 0,0,1,0,1" in said


def test_lists_that_help_shows_are_read_back(tmp_path, capsys):
    """The freeze patterns of a configuration, whose commas and brackets are of both lists and regular expressions."""
    (tmp_path / "config.py").write_text(
        "from jomni.configs.nano_omni.stage1 import get_config as stage\n"
        "import dataclasses\n"
        "def get_config():\n"
        "    config = stage()\n"
        "    freeze = ('(whisper|adapter)/', 'backbone/layers_[0-3]', 'x{1,2}y', '(a),b', 'it\\'s')\n"
        "    return dataclasses.replace(config, task=dataclasses.replace(config.task, freeze=freeze))\n"
    )
    listed = []
    for _ in range(2):
        given = ["--task.freeze", listed[0]] if listed else []
        assert main(["train", str(tmp_path / "config.py"), *given, "--help"]) == OK
        line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("--task.freeze "))
        listed.append(line.partition(" = ")[2])
    assert listed[0] == listed[1]
    assert listed[0] == """["(whisper|adapter)/", "backbone/layers_[0-3]", "x{1,2}y", "(a),b", "it's"]"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.py"], "nothing.py: "),
        ([CASE, "--task.optimizer.lrr", "1"], "--task.optimizer.lrr: "),
        ([CASE, "--steps", "many"], "--steps: 'many'"),
        ([CASE, "--seed", "99999999999999999999"], "'seed'"),
        ([CASE, "--mesh.fsdp", "64"], "fsdp=64"),
        ([CASE, "--task.data.frames", "3"], "'frames'"),
        ([CASE, "--task.tokenizer", "/nowhere.model"], "/nowhere.model: "),
        ([CASE, "--task.model", "none", "--task.init_from", "/nowhere"], "/nowhere"),
        ([CASE, "--out", "/proc/nothing"], "/proc/nothing"),
    ],
)
def test_mistakes_are_told_in_one_message(tmp_path, capsys, arguments, said):
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path)]
    assert main(["train", *arguments]) == MISTAKE
    message = capsys.readouterr().err
    assert message.startswith("jomni train: error: ")
    assert said in message
    assert "Traceback" not in message


def test_a_folder_of_codes_that_is_missing_is_named(tmp_path, capsys, tokenizer_bytes):
    (tmp_path / "text.model").write_bytes(tokenizer_bytes)
    (tmp_path / "config.py").write_text(
        "import dataclasses\n"
        "from tests import train_case\n"
        "from jomni.train.tasks.moshi_data import ConversationData\n"
        "def get_config():\n"
        "    config = train_case.get_config()\n"
        "    model = dataclasses.replace(config.task.model, text_card=64, text_card_out=64)\n"
        f"    task = dataclasses.replace(config.task, data=ConversationData(('{tmp_path}/codes',)), model=model,\n"
        f"                               tokenizer='{tmp_path}/text.model')\n"
        "    return dataclasses.replace(config, task=task)\n"
    )
    assert main(["train", str(tmp_path / "config.py"), "--out", str(tmp_path)]) == MISTAKE
    assert f"{tmp_path}/codes" in capsys.readouterr().err


def test_a_run_leaves_weights_metrics_and_its_configuration(tmp_path, capsys):
    assert main(["train", CASE, "--out", str(tmp_path), "--steps", "3"]) == OK
    held = {path.name for path in (tmp_path / "small").iterdir()}
    assert held == {"config.json", "metrics.jsonl", "checkpoints", "export"}
    assert "the weights after 3 steps" in capsys.readouterr().out
    assert main(["train", CASE, "--out", str(tmp_path), "--steps", "3", "--seed", "1"]) == MISTAKE
    assert "seed: 0 " in capsys.readouterr().err


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc")
def test_a_training_process_keeps_the_memory_it_frees():
    """Page faults of ten large arrays made and freed in turn: of one array's pages, not of ten."""
    code = """if True:
        import resource, sys
        import numpy as np
        from jomni.cli.main import _keep_memory
        if sys.argv[1] == "kept":
            _keep_memory()
        def faults():
            for _ in range(10):
                np.ones(16 << 20, np.float32)  # more than glibc ever keeps of itself
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        before = faults()
        print(faults() - before)
    """
    fresh, kept = (int(subprocess.check_output([sys.executable, "-c", code, how])) for how in ("fresh", "kept"))
    assert kept < 0.01 * fresh
