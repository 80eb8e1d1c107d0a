"""Compare a report of `jomni eval talk` with the goals of nano, and print the table.

python -m tools.goals talk-report
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jomni.eval.report import table


@dataclasses.dataclass(frozen=True)
class Goal:
    """A threshold for a figure. `bar` and `floor` have the unit of the figure in report.json: shares 0 to 1, seconds.

    Args:
      what: the figure's name in the table.
      place: keys that lead to the figure in report.json.
      unit: in which it is shown: "%", "points" or "ms".
      bar: the goal.
      floor: the least that is acceptable.
      higher: whether more is better.
    """

    what: str
    place: tuple[str, ...]
    unit: str
    bar: float
    floor: float
    higher: bool

    def verdict(self, value: float) -> str:
        """Return "bar", "floor" or "missed"; "not measured" for NaN."""
        if math.isnan(value):
            return "not measured"
        sign = 1 if self.higher else -1
        if sign * value >= sign * self.bar - 1e-9:
            return "bar"
        return "floor" if sign * value >= sign * self.floor - 1e-9 else "missed"

    def show(self, value: float) -> str:
        """Return a value in the goal's unit."""
        shown = value * (1e3 if self.unit == "ms" else 100)
        sign = "+" if self.unit == "points" else ""
        return f"{shown:{sign}.{0 if self.unit == 'ms' and abs(shown) >= 100 else 1}f} {self.unit}"

    def row(self, report: Mapping[str, Any]) -> list[str]:
        """Return the goal's line of the table for the content of a report.json."""
        found: Any = report
        for key in self.place:
            found = (found or {}).get(key)
        value, low, high = (math.nan if (found or {}).get(k) is None else found[k] for k in ("value", "low", "high"))
        verdict = self.verdict(value)
        if verdict == "not measured":
            return [self.what, self.show(self.bar), self.show(self.floor), "-", "-", verdict]
        measured = f"{self.show(value)} [{self.show(low).split()[0]}, {self.show(high).split()[0]}]"
        return [self.what, self.show(self.bar), self.show(self.floor), measured, str(found["count"]), MARKS[verdict]]


MARKS = {"bar": "✔ bar", "floor": "~ floor", "missed": "✘ below"}

GOALS = (
    Goal("answer text exact: unseen contents, seen voices", ("cells", "unseen_contents"), "%", 0.95, 0.85, True),
    Goal("answer text exact: seen contents, unseen voices", ("cells", "unseen_voices"), "%", 0.90, 0.70, True),
    Goal("answer text exact: unseen contents, unseen voices", ("cells", "unseen_both"), "%", 0.85, 0.60, True),
    Goal("spoken reply, word error rate above the synthesiser's", ("replies", "above"), "points", 0.10, 0.20, False),
    Goal("speaks over the user, share of turns", ("behaviour", "speaks_over"), "%", 0.02, 0.05, False),
    Goal("response latency, median", ("behaviour", "latency"), "ms", 0.480, 0.800, False),
    Goal("waits through a pause inside a question", ("behaviour", "waits"), "%", 0.90, 0.75, True),
    Goal("stops within 1 s when interrupted", ("behaviour", "stops"), "%", 0.90, 0.75, True),
    Goal("whole duplex frame, 99th percentile", ("slowest_frames",), "ms", 0.040, 0.060, False),
    Goal("answers around the 30th minute, against the start", ("long", "gain"), "points", 0.0, -0.05, True),
)
"""The goals of nano. docs/reports/nano.md has the results."""


def goal_table(report: Mapping[str, Any]) -> str:
    """Return the goals and what a report measured, in Markdown."""
    return table(["what", "bar", "floor", "measured [95 %]", "n", ""], [goal.row(report) for goal in GOALS])


def main() -> None:
    """Print the table of a report folder."""
    parser = argparse.ArgumentParser(prog="python -m tools.goals", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("report", type=Path, help="report folder of `jomni eval talk`")
    path = parser.parse_args().report / "report.json"
    if not path.is_file():
        parser.error(f"{path}: there is no such file. Give a report folder of 'jomni eval talk'.")
    print(goal_table(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
