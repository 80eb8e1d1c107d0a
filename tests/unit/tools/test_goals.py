"""The goals of nano: figures of a report compared with thresholds."""

import json
import math
import sys

import pytest

from tools import goals
from tools.goals import GOALS, Goal


def test_goals_compare_in_the_right_direction():
    more, less = Goal("a", (), "%", 0.9, 0.7, True), Goal("b", (), "ms", 0.48, 0.8, False)
    assert [more.verdict(x) for x in (0.95, 0.9, 0.8, 0.7, 0.6)] == ["bar", "bar", "floor", "floor", "missed"]
    assert [less.verdict(x) for x in (0.3, 0.48, 0.6, 0.8, 0.9)] == ["bar", "bar", "floor", "floor", "missed"]
    assert more.verdict(math.nan) == "not measured"
    assert (more.show(0.951), less.show(0.48), Goal("c", (), "points", 0, 0, True).show(-0.05)) == (
        "95.1 %", "480 ms", "-5.0 points"
    )  # fmt: skip


def estimate(value):
    return {"value": value, "low": None if value is None else value - 0.01, "high": value and value + 0.01, "count": 7}


def test_the_table_of_a_report(tmp_path, monkeypatch, capsys):
    report = {
        "cells": {"unseen_contents": estimate(0.96)}, "replies": None, "slowest_frames": estimate(0.0321),
        "behaviour": {"speaks_over": estimate(0.03), "latency": estimate(0.9), "waits": estimate(None)},
        "long": {"gain": estimate(0.0)},
    }  # fmt: skip
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.setattr(sys, "argv", ["goals", str(tmp_path)])
    goals.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[0] for row in rows] == [goal.what for goal in GOALS]
    assert rows[0][1:] == ["95.0 %", "85.0 %", "96.0 % [95.0, 97.0]", "7", "✔ bar"]
    assert rows[5][3:] == ["900 ms [890, 910]", "7", "✘ below"]
    assert [row[-1] for row in rows] == [
        "✔ bar", "not measured", "not measured", "not measured", "~ floor", "✘ below", "not measured", "not measured",
        "✔ bar", "✔ bar",
    ]  # fmt: skip


def test_a_folder_without_a_report_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["goals", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        goals.main()
    assert left.value.code == 2
    assert f"{tmp_path}/report.json" in capsys.readouterr().err
