"""Training, whole: it learns, it survives being killed at any moment, and any mesh computes the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jomni.configs import tiny_lm

from jomni.train.config_files import read_config
from jomni.train.loop import train
from jomni.train.overrides import override
from tests.e2e.runs import checkpoints, finish, start
from tests.paths import ROOT, TESTS

CASE = TESTS / "train_case.py"


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def last(out: Path) -> int:
    """The last complete checkpoint's step; 0: there is none yet."""
    return max(checkpoints(out / "small"), default=0)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The folder of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("unbroken")
    finish(start(CASE, out))
    return out / "small"


def test_a_tiny_model_learns_the_game_within_a_minute(tmp_path):
    config = override(tiny_lm.get_config(), ["--out", str(tmp_path), "--steps", "120", "--tensorboard", "false"])
    train(config)
    lines = metrics(tmp_path / "tiny_lm")
    assert lines[0]["loss"] > 1
    assert lines[-1]["loss"] < 0.01, "after 120 steps from seed 0 it was 0.0003"
    assert lines[-1]["word_accuracy"] == 1


def test_a_run_that_is_continued_ends_with_the_bytes_of_one_that_was_not(tmp_path):
    """In one process; the slow tests kill it."""

    def run(out: str, steps: int) -> bytes:
        train(override(read_config(CASE), ["--out", str(tmp_path / out), "--steps", str(steps)]))
        return (tmp_path / out / "small/export/model.safetensors").read_bytes()

    half = run("continued", 2)
    assert half != run("continued", 4) == run("unbroken", 4)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(unbroken, tmp_path):
    rng = random.Random(0)
    for _ in range(3):
        process = start(CASE, tmp_path)
        held = last(tmp_path)
        while process.poll() is None and last(tmp_path) <= held:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL and last(tmp_path) < 40, "it was over already"
    said = finish(start(CASE, tmp_path))
    assert "resuming" in said
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "small/export" / name).read_bytes() == (unbroken / "export" / name).read_bytes()
    lines = metrics(tmp_path / "small")
    assert [line["step"] for line in lines] == [line["step"] for line in metrics(unbroken)]
    assert not [path for path in (tmp_path / "small/checkpoints").iterdir() if "tmp" in path.name]


@pytest.mark.slow
def test_validation_says_how_it_goes_and_changes_nothing(unbroken, tmp_path):
    said = finish(start(CASE, tmp_path, "--valid_every", "20", "--valid_batches", "2"))
    assert "step 20, held-out data: loss " in said
    found = [line for line in metrics(tmp_path / "small") if "valid/loss" in line]
    assert [line["step"] for line in found] == [20, 40] and found[1]["valid/loss"] < found[0]["valid/loss"]
    name = "export/model.safetensors"
    assert (tmp_path / "small" / name).read_bytes() == (unbroken / name).read_bytes()
    said = finish(start(CASE, tmp_path / "none", "--valid_every", "20", "--task.valid", "None"), code=2)
    assert "task.valid" in said


@pytest.mark.slow
def test_sigterm_finishes_the_step_saves_and_says_so(unbroken, tmp_path):
    # Exporting all the while, so that the signal comes between any two of the things that a step ends with.
    process = start(CASE, tmp_path, "--steps", "100000", "--checkpoint_every", "100000", "--export_every", "1")
    while process.poll() is None and not (tmp_path / "small/metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    said = finish(process, 128 + signal.SIGTERM)
    step = int(said.split("stopped at step ")[1].split(";")[0])
    assert [int(path.name) for path in (tmp_path / "small/checkpoints").iterdir()] == [step]


_MESHES = """
import sys
from jomni.train.config_files import read_config
from jomni.train.loop import train
from jomni.train.config_files import read_config
from jomni.train.overrides import override
from pathlib import Path

case, out = Path(sys.argv[1]), sys.argv[2]
MESHES = {"one": (1, 1, 1), "data": (8, 1, 1), "fsdp": (1, 8, 1), "tensor": (1, 1, 8), "all": (2, 2, 2)}
for name, (data, fsdp, tensor) in MESHES.items():
    flags = dict(name=name, out=out, steps=4, log_every=1, checkpoint_every=4)
    flags |= {"mesh.data": data, "mesh.fsdp": fsdp, "mesh.tensor": tensor, "task.ema": 0}
    train(override(read_config(case), [f"--{k}={v}" for k, v in flags.items()]))
"""


@pytest.mark.slow
def test_losses_on_eight_devices_equal_those_on_one(tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-c", _MESHES, str(CASE), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=900)
    expected = [line["loss"] for line in metrics(tmp_path / "one")]
    assert len(expected) == 4
    for mesh in ("data", "fsdp", "tensor", "all"):
        assert [line["loss"] for line in metrics(tmp_path / mesh)] == pytest.approx(expected, rel=1e-5), mesh
