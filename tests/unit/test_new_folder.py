"""A new folder tells of its own errors alone: those of other files are no matter of free space."""

import errno
import os
from pathlib import Path

import pytest

from jomni.errors import OutputError
from jomni.folders import new_folder


def anything(folder, held):
    """Whatever the folder holds may be replaced."""


def test_an_error_of_another_file_reaches_the_caller_as_it_is(tmp_path):
    missing = tmp_path / "recording.wav"
    with pytest.raises(FileNotFoundError) as caught, new_folder(tmp_path / "out", anything):
        missing.read_bytes()
    assert caught.value.filename == str(missing)
    for error in (
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError("no number"),
        OSError(errno.EBADF, "bad", 7),
    ):
        with pytest.raises(OSError) as caught, new_folder(tmp_path / "out", anything):
            raise error
        assert caught.value is error
    assert not os.listdir(tmp_path)


FAILED = r"out: .*\(.*\).*free space"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_space_is_told_of_the_folder(tmp_path, number):
    with pytest.raises(OutputError, match=FAILED), new_folder(tmp_path / "out", anything):
        raise OSError(number, "full")  # of a write, which names no file


def test_an_error_of_a_file_in_it_is_told_of_the_folder(tmp_path):
    with pytest.raises(OutputError, match=FAILED), new_folder(tmp_path / "out", anything) as made:
        (made / "absent" / "report.md").write_text("")
    with pytest.raises(OutputError, match=FAILED), new_folder(tmp_path / "out", anything) as made:
        os.rename(tmp_path, made)


def test_a_folder_that_cannot_take_its_place_leaves_the_one_before(tmp_path, monkeypatch):
    with new_folder(tmp_path / "out", anything) as made:
        (made / "one").touch()
    rename = os.rename

    def refuse(source, target):
        if Path(source).name == "new":
            raise PermissionError(errno.EACCES, "Permission denied", str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match=FAILED), new_folder(tmp_path / "out", anything) as made:
        (made / "two").touch()
    assert os.listdir(tmp_path / "out") == ["one"] and os.listdir(tmp_path) == ["out"]
