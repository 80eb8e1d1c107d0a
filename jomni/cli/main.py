"""Entry point of the command `jomni`: chooses the command, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType

from jomni.cli.parser import parse
from jomni.errors import JomniError

OK, MISTAKE, INTERRUPTED, TERMINATED = 0, 2, 130, 143
"""Exit codes. An unexpected error (a bug) shows its traceback, as Python does."""

_HOMES = {"encode": "codes", "decode": "codes", "talk": "talk", "info": "info", "convert": "info"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments after the command's name; None: those of this process.

    Returns:
      The exit code: 0 success, 2 a mistake in arguments or inputs (its message on stderr), 130 interrupted. Unless it
      is 0, no output file is left behind.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    _quieten()
    name = f"jomni {options.command}"
    try:
        with _terminable():
            module = importlib.import_module(f"jomni.cli.{_HOMES[options.command]}")
            getattr(module, options.command)(options)
            sys.stdout.flush()
    except JomniError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough (as in `jomni info M | head -1`). Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _quieten() -> None:
    """Keeps the chatter of XLA, absl and orbax off the terminal, unless the environment asks for it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when jaxlib is imported: errors only
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("absl", "orbax", "jax._src.xla_bridge"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM unwind the stack like Ctrl-C, so that no half-written file stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
