"""One process at a time writes to a folder."""

import errno
import os
import subprocess
import sys

import jax
import pytest

from jomni.errors import OutputError
from jomni.folders import LOCK, locked
from jomni.train.config import TrainConfig
from jomni.train.loop import _run_folder
from tests.slow_case import SlowConfig

fcntl = pytest.importorskip("fcntl")
OTHER = "import sys, time; from pathlib import Path; from jomni.folders import locked\nwith locked(Path(sys.argv[1])): "


def test_a_folder_is_locked_as_long_as_the_block_lasts_and_nothing_stays_in_it(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            refusal = pytest.raises(OutputError, match=rf"^{tmp_path}: .* table")
            with refusal, locked(tmp_path, "table"):
                pass
            assert os.listdir(tmp_path) == [LOCK]
        assert not os.listdir(tmp_path)
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    assert not os.listdir(tmp_path)


def test_the_lock_of_a_killed_process_is_free_and_its_file_means_nothing(tmp_path):
    command = [sys.executable, "-c", OTHER + "print(flush=True); time.sleep(60)", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        with pytest.raises(OutputError, match=f"^{tmp_path}: "), locked(tmp_path):
            pass
        process.kill()
    assert os.listdir(tmp_path) == [LOCK]
    with locked(tmp_path):
        pass
    assert not os.listdir(tmp_path)


def test_a_lock_on_a_file_that_its_owner_has_removed_does_not_count(tmp_path, monkeypatch):
    flock, taken = fcntl.flock, []

    def late(file, operation):
        if not taken:  # its owner is done between our opening and our locking
            (tmp_path / LOCK).unlink()
        taken.append(file)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        assert len(taken) == 2 and os.listdir(tmp_path) == [LOCK]
        with pytest.raises(OutputError, match=f"^{tmp_path}: "), locked(tmp_path):
            pass


def test_systems_without_locks_go_on_without(tmp_path, monkeypatch):
    def none(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path), locked(tmp_path):
        assert not os.listdir(tmp_path)


def test_of_the_hosts_of_one_run_the_first_alone_locks_its_folder(tmp_path, monkeypatch):
    config = TrainConfig("slow", SlowConfig(), out=str(tmp_path))
    with _run_folder(config, print) as folder:
        with pytest.raises(OutputError, match="--name"), _run_folder(config, print):
            pass
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with _run_folder(config, print):
            assert LOCK in os.listdir(folder)
    assert os.listdir(folder) == ["config.json"]
