"""Metrics of a run: means over what counted, giving up, and what is kept in files."""

import json
import math

import pytest

from jomni.errors import JomniError, OutputError
from jomni.train.metrics import MetricsWriter, Window, means


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_steps_that_were_skipped_count_as_such_alone():
    window = Window()
    for loss, skipped in ((1.0, 0), (math.nan, 1), (3.0, 0)):
        window.add({"loss": loss, "skipped": skipped})
    assert window.fetch(3, max_skips=2) == {"loss": 2.0, "skipped": 1}
    window.add({"loss": math.nan, "skipped": 1})
    found = window.fetch(4, max_skips=2)
    assert math.isnan(found["loss"]) and found["skipped"] == 1


def test_what_a_batch_had_nothing_of_is_not_in_the_mean():
    assert means([{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": 2.0}]) == {"a": 2.0, "b": 2.0}
    window = Window()
    for spoken in (math.nan, 2.0, math.nan):
        window.add({"loss": 1.0, "audio_loss": spoken, "text_loss": math.nan})
    found = window.fetch(3, max_skips=2)
    assert found["loss"] == 1 and found["audio_loss"] == 2 and math.isnan(found["text_loss"])


def test_a_run_gives_up_after_so_many_skipped_steps_in_a_row():
    window = Window()
    for skipped in (1, 1, 0, 1, 1):
        window.add({"loss": 1.0, "skipped": skipped})
    window.fetch(5, max_skips=3)
    window.add({"loss": 1.0, "skipped": 1})  # the third, counted over two fetches
    with pytest.raises(JomniError, match=r"^3 .*step 6.*optimizer\.lr"):
        window.fetch(6, max_skips=3)


def test_what_lies_after_the_step_resumed_from_is_dropped(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    for step in (2, 4, 6):
        writer.write(step, {"loss": math.inf if step == 2 else float(step)})
    writer.close()
    assert lines(tmp_path)[0] == {"step": 2, "loss": None}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # cut short by a kill
    writer = MetricsWriter(tmp_path, 4)
    writer.write(5, {"loss": 5.0})
    writer.close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5]
    events = list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    assert events and all(b"loss" in path.read_bytes() for path in events)


def test_a_full_disk_is_said(tmp_path):
    writer = MetricsWriter(tmp_path, 0, tensorboard=False)
    writer._file.close()
    writer._file = open("/dev/full", "a")  # noqa: SIM115
    for act in (lambda: writer.write(1, {"loss": 1.0}), writer.close):
        with pytest.raises(OutputError, match=r"metrics\.jsonl: .*No space"):
            act()
