"""Progress bars of long work, on stderr and only on a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress(Protocol):
    """Function that shows how far one stage of the work is."""

    def __call__(self, stage: str, done: float, total: float, unit: str, note: str = "", /) -> Any:
        """Add the stage's bar, or update it: the amount done, the total amount, their unit, and a text after them."""


def on_terminal() -> bool:
    """Return whether bars are shown."""
    return Console(stderr=True).is_terminal


@contextlib.contextmanager
def stages() -> Iterator[Progress]:
    """Yield a function that shows one bar per stage; the bars are removed when the block ends."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: float, total: float, unit: str, note: str = "", /) -> None:
            text = f"{round(done, 1):.10g}/{round(total, 1):.10g} {unit} {note}"
            if stage in tasks:
                bars.update(tasks[stage], completed=done, total=total, text=text)
            else:
                tasks[stage] = bars.add_task(stage, completed=int(done), total=total, text=text)

        yield progress
