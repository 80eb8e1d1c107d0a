"""Commands that write to a folder bit by bit leave it to the process that is at work in it."""

import pytest

from jomni.folders import locked
from tests.cli.test_self_rollout import codes  # noqa: F401  (a fixture)
from tests.train_case import __file__ as CASE

pytest.importorskip("fcntl")


def test_a_folder_that_another_process_writes_to_is_refused_and_left_as_it_is(
    codes, tmp_path, refuses, tiny_moshi_folder  # noqa: F811
):  # fmt: skip
    commands = {
        codes: ("tokenize", tmp_path / "corpus/all.jsonl", codes, "--model", tiny_moshi_folder),
        tmp_path / "own": ("self-rollout", codes, tmp_path / "own", "--model", tiny_moshi_folder),
        tmp_path / "small": ("train", CASE, "--out", tmp_path, "--steps", 1),
    }
    for folder, command in commands.items():
        folder.mkdir(exist_ok=True)
        with locked(folder):
            (folder / ".codes-00000-of-00001.array_record.part").write_bytes(b"half")
            refuses(*command, says=[f"jomni {command[0]}: error: {folder}: "])
