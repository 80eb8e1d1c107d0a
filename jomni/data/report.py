"""What is wrong with the parts of a file, told all at once: what reports on manifests and on parquet files share."""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, NamedTuple, Self, TypeVar

from jomni.errors import DataError

SHOWN = 20
"""Problems that an error lists; it counts the others."""

Part = TypeVar("Part")


class Problem(NamedTuple):
    """One thing wrong with one part."""

    where: str  # which part, or which line or row
    kind: enum.Enum  # its value says it in words
    detail: str


def listed(lines: Sequence[str], shown: int = SHOWN) -> str:
    """Lines of a list, at most `shown`, and how many more there are."""
    more = [f"... and {len(lines) - shown} more"] if len(lines) > shown else []
    return "\n".join(f"  {line}" for line in [*lines[:shown], *more])


@dataclasses.dataclass(frozen=True)
class Findings(Generic[Part]):
    """The parts of a file that can be used, and the problems of those that cannot."""

    path: Path
    good: tuple[Part, ...]  # those without a problem, in order
    problems: tuple[Problem, ...]
    bad: int  # parts with a problem

    PART: ClassVar[str]  # what a part is called,
    WHOLE: ClassVar[str]  # and the file,
    CURE: ClassVar[str]  # and what is to be corrected

    def counts(self) -> dict[enum.Enum, int]:
        """Problems of each kind."""
        return dict(collections.Counter(problem.kind for problem in self.problems))

    def summary(self) -> str:
        """One line: how many parts, and what is wrong with how many."""
        kinds = ", ".join(f"{count} x {kind.value}" for kind, count in self.counts().items())
        found = f"{self.bad} of {self.bad + len(self.good)} {self.PART}s cannot be used"
        return found + (f": {kinds}" if kinds else "")

    def listing(self, shown: int = SHOWN) -> str:
        """Return the problems part by part, a line each, at most `shown`, and how many more there are."""
        return listed([f"{p.where}: {p.kind.value}: {p.detail}" for p in self.problems], shown)

    def accepted(self, skip_bad: bool) -> Self:
        """Return the findings, if they are acceptable.

        Raises:
          DataError: there are problems, and `skip_bad` is not set, or no part is left.
        """
        if self.problems and not skip_bad:
            raise DataError(
                f"{self.path}: {self.summary()}.\n{self.listing()}\n"
                f"Correct these {self.CURE}, or have them skipped and counted."
            )
        if not self.good:
            raise DataError(
                f"{self.path}: no {self.PART} of the {self.WHOLE} can be used"
                + (f":\n{self.listing()}" if self.problems else ".")
            )
        return self
