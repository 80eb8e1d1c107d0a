"""Reports on files with many parts, such as manifests and parquet files: the usable parts and all the problems."""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, NamedTuple, Self, TypeVar

from jomni.errors import DataError

SHOWN = 20
"""Number of problems that an error message lists. The message counts the others."""

Part = TypeVar("Part")


class Problem(NamedTuple):
    """One problem of one part of a file."""

    where: str  # the part, or the line or row of the file
    kind: enum.Enum  # its value is a description for messages
    detail: str


def listed(lines: Sequence[str], shown: int = SHOWN) -> str:
    """Format at most `shown` lines as an indented list, followed by the number of lines left out."""
    more = [f"... and {len(lines) - shown} more"] if len(lines) > shown else []
    return "\n".join(f"  {line}" for line in [*lines[:shown], *more])


@dataclasses.dataclass(frozen=True)
class Findings(Generic[Part]):
    """The usable parts of a file, and the problems of the others."""

    path: Path
    good: tuple[Part, ...]  # parts without a problem, in file order
    problems: tuple[Problem, ...]
    bad: int  # number of parts with a problem

    PART: ClassVar[str]  # name of a part in messages
    WHOLE: ClassVar[str]  # name of the file in messages
    CURE: ClassVar[str]  # name of what the user has to correct

    def counts(self) -> dict[enum.Enum, int]:
        """Return the number of problems of each kind."""
        return dict(collections.Counter(problem.kind for problem in self.problems))

    def summary(self) -> str:
        """Return one line with the number of unusable parts and the number of problems of each kind."""
        kinds = ", ".join(f"{count} x {kind.value}" for kind, count in self.counts().items())
        found = f"{self.bad} of {self.bad + len(self.good)} {self.PART}s cannot be used"
        return found + (f": {kinds}" if kinds else "")

    def listing(self, shown: int = SHOWN) -> str:
        """Return one line per problem for at most `shown` problems, followed by the number of problems left out."""
        return listed([f"{p.where}: {p.kind.value}: {p.detail}" for p in self.problems], shown)

    def accepted(self, skip_bad: bool) -> Self:
        """Return `self` if the file may be used.

        Args:
          skip_bad: accept a file that has problems, as long as one part is usable.

        Raises:
          DataError: there are problems and `skip_bad` is false, or no part is usable.
        """
        if self.problems and not skip_bad:
            raise DataError(
                f"{self.path}: {self.summary()}.\n{self.listing()}\n"
                f"Correct these {self.CURE}, or set skip_bad to skip and count them."
            )
        if not self.good:
            raise DataError(
                f"{self.path}: no {self.PART} of the {self.WHOLE} can be used"
                + (f":\n{self.listing()}" if self.problems else ".")
            )
        return self
