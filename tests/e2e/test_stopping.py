"""Runs that are told to stop, or killed, while they wait for their data; and several at once."""

import os
import signal
import time
from pathlib import Path

import pytest

from jomni.errors import DataError
from jomni.folders import LOCK
from jomni.train.config import TrainConfig
from jomni.train.loop import Stopped, train
from tests import slow_case
from tests.e2e.runs import checkpoints, finish, start
from tests.slow_case import SlowConfig, SlowTask

pytestmark = pytest.mark.slow

CASE = Path(slow_case.__file__)


def wait_for(what, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


def is_empty(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def steps(out: Path) -> int:
    """Steps that were logged."""
    path = out / "slow/metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def saved(out: Path) -> list[int]:
    return checkpoints(out / "slow")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_of_a_run_with_workers_saves_what_is_done_and_leaves_none_of_them(number, tmp_path):
    process = start(CASE, tmp_path, "--steps", "100000")
    wait_for(lambda: steps(tmp_path) >= 2)
    os.killpg(process.pid, number)
    said = finish(process, 128 + number, 120)
    step = int(said.split("stopped at step ")[1].split(";")[0])
    assert step >= 2 and saved(tmp_path) == [step] and "Traceback" not in said
    wait_for(lambda: is_empty(process.pid), 20)


def test_a_second_run_of_a_name_is_refused_until_the_first_is_killed_which_leaves_nothing_behind(tmp_path):
    first = start(CASE, tmp_path, "--steps", "100000", "--checkpoint_every", "1", "--task.seconds", "1")
    wait_for(lambda: steps(tmp_path) >= 2)
    said = finish(start(CASE, tmp_path), 2, 120)
    assert f"jomni train: error: {tmp_path}/slow: " in said and "--name" in said
    reached = steps(tmp_path)
    wait_for(lambda: steps(tmp_path) > reached and saved(tmp_path))  # the first one's metrics are still its own
    first.kill()
    first.communicate()
    assert (tmp_path / "slow" / LOCK).exists()
    wait_for(lambda: is_empty(first.pid), 20)
    last = max(saved(tmp_path))
    second = start(CASE, tmp_path, "--steps", str(last + 1))
    assert f"resuming {tmp_path}/slow at step {last}" in finish(second, 0, 120)
    assert not (tmp_path / "slow" / LOCK).exists()
    wait_for(lambda: is_empty(second.pid), 20)


def config(out: Path, numbers: int = 10, **options) -> TrainConfig:
    return TrainConfig("slow", SlowConfig(numbers), **({"steps": 6, "out": str(out), "tensorboard": False} | options))


class Ending:
    """Batches that end with a signal to this process, as those of workers do that are not up yet when it comes."""

    def __init__(self, batches, after: int) -> None:
        self._batches, self._after = batches, after

    def __iter__(self):
        return self

    def __next__(self):
        if self._after == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("Worker process was terminated unexpectedly")
        self._after -= 1
        return next(self._batches)

    def get_state(self):
        return self._batches.get_state()

    def close(self):
        self._batches.close()


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("fetched", range(5))
def test_where_no_batch_comes_after_a_signal_the_last_finished_step_is_saved(fetched, every, tmp_path, monkeypatch):
    train(config(tmp_path / "whole"))
    dataset = SlowTask.dataset
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(SlowTask, "dataset", lambda self, seed: Ending(iter(dataset(self, seed)), fetched))
        train(config(tmp_path, prefetch=1, checkpoint_every=every))
    assert (stopped.value.step, stopped.value.signum) == (fetched, signal.SIGTERM)
    assert saved(tmp_path)[-1:] == [fetched][: bool(fetched)], "nothing is saved of no step"
    train(config(tmp_path))
    total = "slow/export/total.txt"
    assert (tmp_path / total).read_text() == (tmp_path / "whole" / total).read_text()


def test_a_signal_that_ends_the_validation_saves_its_step(tmp_path, monkeypatch):
    batches, rounds = SlowConfig().build(1).dataset(1), iter((9, 1))

    class Validation:
        def __iter__(self):
            return Ending(iter(batches), next(rounds))

    monkeypatch.setattr(SlowTask, "valid_dataset", lambda self: Validation())
    monkeypatch.setattr(SlowTask, "measure", lambda self, state, batch: {"loss": batch["number"].sum()})
    with pytest.raises(Stopped) as stopped:
        train(config(tmp_path, valid_every=2, valid_batches=2))
    assert stopped.value.step == 4 and saved(tmp_path) == [4]


def test_batches_that_fail_without_a_signal_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(slow_case.Draw, "__call__", lambda self, number, rng: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config(tmp_path))


def test_a_run_whose_data_has_changed_is_not_resumed(tmp_path):
    train(config(tmp_path))
    with pytest.raises(DataError, match=r"10 examples.*12 examples.*--name"):
        train(config(tmp_path, 12, steps=9))
    assert saved(tmp_path) == [6]
    train(config(tmp_path, steps=9))
    assert saved(tmp_path) == [6, 9]
