"""Report folders: report.md for people, report.json for programs, plots and examples; written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jomni.errors import OutputError
from jomni.eval.intervals import Estimate
from jomni.folders import new_folder

NUMBER = {"%": 100.0, "points": 100.0}
"""By which a value is multiplied to be shown in a unit; 1 for others."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure that is asked for. `bar` and `floor` are in the value's own measure (shares 0 to 1, seconds, ms)."""

    what: str
    unit: str  # "%", "points", "ms"
    bar: float
    floor: float
    higher: bool  # whether more is better
    scale: float = 1.0  # of the value before it is shown, beside NUMBER (1000 for seconds shown as ms)

    def verdict(self, value: float) -> str:
        """ "bar", "floor" or "missed"; "not measured" for NaN."""
        if math.isnan(value):
            return "not measured"
        sign = 1 if self.higher else -1
        if sign * value >= sign * self.bar - 1e-9:
            return "bar"
        return "floor" if sign * value >= sign * self.floor - 1e-9 else "missed"

    def show(self, value: float) -> str:
        """Return a value in the goal's unit."""
        shown = value * self.scale * NUMBER.get(self.unit, 1.0)
        sign = "+" if self.unit == "points" else ""
        return f"{shown:{sign}.{0 if self.unit == 'ms' and abs(shown) >= 100 else 1}f} {self.unit}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A goal and what was measured."""

    goal: Goal
    measured: Estimate
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        verdict = self.goal.verdict(self.measured.value)
        return dataclasses.asdict(self.goal) | {
            "measured": self.measured.as_dict(), "verdict": verdict, "note": self.note,
        }  # fmt: skip


_MARKS = {"bar": "✔ bar", "floor": "~ floor", "missed": "✘ below", "not measured": "not measured"}


def goal_table(rows: Sequence[Row]) -> str:
    """Return the table of goals in Markdown."""
    lines = []
    for row in rows:
        goal, m = row.goal, row.measured
        if math.isnan(m.value):
            shown = "-"
        else:
            shown = f"{goal.show(m.value)} [{goal.show(m.low).split()[0]}, {goal.show(m.high).split()[0]}]"
        lines.append([
            goal.what, goal.show(goal.bar), goal.show(goal.floor), shown, str(m.count) if m.count else "-",
            _MARKS[goal.verdict(m.value)] + (f" ({row.note})" if row.note else ""),
        ])  # fmt: skip
    return table(["what", "bar", "floor", "measured [95 %]", "n", ""], lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose source is aligned too, so that a terminal shows it as well."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[n]) for row in cells)) for n in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def percent(estimate: Estimate) -> str:
    """Return a share with its interval."""
    if math.isnan(estimate.value):
        return "-"
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def number(estimate: Estimate, digits: int = 2) -> str:
    """Return a figure with its interval."""
    if math.isnan(estimate.value):
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def plain(value: Any) -> Any:
    """Return a value for JSON: estimates and dataclasses taken apart, NaN as None."""
    if isinstance(value, Estimate | Row):
        return value.as_dict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON that people can read."""
    path.write_text(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def report_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """As `jomni.folders.new_folder`; what it replaces, if `force` is true, is a report and nothing else.

    Raises:
      OutputError: `path` is a file, or holds something other than a report (never replaced), or holds a report and
        `force` is false, or cannot be written.
    """

    def check(target: Path, held: Sequence[str]) -> None:
        if "report.json" not in held:
            raise OutputError(f"{target}: is not empty and holds no report. Choose another folder.")
        if not force:
            raise OutputError(f"{target}: holds a report already. Choose another folder, or replace it with --force.")

    with new_folder(path, check) as made:
        yield made
