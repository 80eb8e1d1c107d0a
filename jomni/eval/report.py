"""Report folders (report.md, report.json, plots, examples), and formatting of figures."""

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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns, readable in a terminal."""
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


def points(estimate: Estimate) -> str:
    """Return a difference of shares with its interval, in percentage points."""
    if math.isnan(estimate.value):
        return "-"
    return f"{100 * estimate.value:+.1f} points [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def milliseconds(estimate: Estimate) -> str:
    """Return a time in seconds with its interval, in milliseconds."""
    if math.isnan(estimate.value):
        return "-"
    value, low, high = (f"{1e3 * x:.{0 if x >= 0.1 else 1}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} ms [{low}, {high}]"


def plain(value: Any) -> Any:
    """Return a value for JSON: dataclasses as dictionaries, NaN as None."""
    if hasattr(value, "as_dict"):
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
    """Write a value as indented JSON."""
    path.write_text(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def report_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an error (`jomni.folders.new_folder`).

    Args:
      path: the report folder.
      force: replace a report that exists.

    Raises:
      OutputError: `path` is a file, holds something other than a report, holds a report and `force` is false, or cannot
        be written.
    """

    def check(target: Path, held: Sequence[str]) -> None:
        if "report.json" not in held:
            raise OutputError(f"{target}: is not empty and holds no report. Choose another folder.")
        if not force:
            raise OutputError(f"{target}: holds a report already. Choose another folder, or replace it with --force.")

    with new_folder(path, check) as made:
        yield made
