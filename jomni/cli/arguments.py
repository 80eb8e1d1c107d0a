"""Arguments that several commands share, and their help texts. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import textwrap
from collections.abc import Callable
from typing import NoReturn

DTYPES = ("float32", "bfloat16", "float16")
_CHOICES = "float32, bfloat16 or float16"
LAYOUTS = ("kyutai", "snac", "openai", "litgpt", "hf", "orbax")
MODEL = (
    "the model: nano, nano_omni or nano_snac, which come with jomni, a folder, a weight file, or a Hugging Face "
    "repository id such as kyutai/moshiko-pytorch-bf16, with @REVISION for one revision of it"
)


def add_force(parser: Parser, what: str = "overwrite outputs that exist") -> None:
    """Add --force."""
    parser.add_argument("--force", action="store_true", help=f"{what} (default: refuse)")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers a mistake in two lines and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n'{self.prog} --help' explains the arguments.\n")


def add_model(parser: Parser) -> None:
    """Add --model."""
    parser.add_argument("--model", metavar="M", default="nano", help=f"{MODEL} (default: nano)")


def add_device(parser: Parser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", metavar="D", type=_device,
        help="where to compute: cpu, cuda or tpu, with :N for the device numbered N (default: the best that JAX finds)",
    )  # fmt: skip


_BY_DEVICE = "float32 on a CPU, float16 on a GPU before Ampere, bfloat16 elsewhere"


def add_dtype(parser: Parser, what: str, default: str = _BY_DEVICE) -> None:
    """Add --dtype; `what` says of which numbers, without the choices."""
    parser.add_argument("--dtype", metavar="T", choices=DTYPES, help=f"{what}: {_CHOICES} (default: {default})")


def add_seed(parser: Parser, what: str = "seed of the sampling") -> None:
    """Add --seed."""
    parser.add_argument("--seed", metavar="N", type=whole(0, 2**31 - 1), default=0, help=f"{what} (default: 0)")


def _device(text: str) -> str:
    if not re.fullmatch(r"[a-z]+(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device such as cpu, cuda, cuda:1 or tpu")
    return text


class Formatter(argparse.HelpFormatter):
    """Wraps paragraphs to the terminal, keeps indented lines as they are, and never breaks a name at its hyphens."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=min(shutil.get_terminal_size().columns, 100))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for line in text.splitlines():
            if line and lines and lines[-1] and not line.startswith(" ") and not lines[-1].startswith(" "):
                lines[-1] += " " + line
            else:
                lines.append(line)
        return "\n".join(line if line.startswith(" ") else wrap(line, width) for line in lines)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width).splitlines()


def wrap(text: str, width: int) -> str:
    """Return a text with line breaks, as one paragraph."""
    return textwrap.fill(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
        return value

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return convert
