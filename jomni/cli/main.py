"""Entry point of the command `jomni`: chooses the command, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from jomni.cli.parser import command_function, parse
from jomni.errors import JomniError

OK, MISTAKE, INTERRUPTED, TERMINATED = 0, 2, 130, 143
"""Exit codes. An unexpected error (a bug) prints its traceback."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def command() -> NoReturn:
    """Run the command of this process, and exit with its code."""
    try:
        code: int | str | None = main()
    except SystemExit as stop:
        code = stop.code
    if code in (INTERRUPTED, TERMINATED):
        # XLA may still compute in other threads. A normal exit of the interpreter then crashes sometimes.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(int(code))
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      argv: the arguments after `jomni`; None: those of this process.

    Returns:
      The exit code: 0 for success, 2 for a mistake in arguments or inputs (with a message on stderr), 130 when
      interrupted. Unless it is 0, no output file is left behind.
    """
    try:
        with _signals_held():
            options = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    _quieten()
    name = f"jomni {options.command}"
    try:
        with _terminable():
            if options.command == "train":
                _keep_memory()
            with _signals_held():
                importlib.import_module("jomni.checkpoints.load")
            command_function(options.command)(options)
    except JomniError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not _out_of_memory(error):
            raise
        print(
            f"{name}: error: out of memory ({str(error).strip().partition(chr(10))[0] or 'no more'}). "
            + _sparing(options),
            file=sys.stderr,
        )
        return MISTAKE
    return OK


def _out_of_memory(error: Exception) -> bool:
    # A jax.errors.JaxRuntimeError is recognised by its text, because importing jax takes seconds.
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _sparing(options: argparse.Namespace) -> str:
    """Return advice on options that use less memory."""
    if options.command == "train":
        return (
            "Use a smaller --task.batch (of a codec: --task.data.batch); --task.microbatches, --task.remat and "
            "--task.dtype bfloat16 save memory where the configuration has them (--help lists its fields)."
        )
    return f"Use {'--dtype bfloat16, ' if 'dtype' in options else ''}fewer or shorter inputs, or another --device."


def _quieten() -> None:
    """Silence the log messages of XLA, absl and orbax, unless the environment asks for them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when jaxlib is imported: errors only
    for name in ("absl", "orbax", "jax._src.xla_bridge"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)


def _keep_memory() -> None:
    """Make glibc keep freed memory in one arena, because every training step allocates the same blocks again.

    By default glibc returns large blocks to the system, and each operation faults their pages in again: a fifth of a
    step's time on a CPU. This must run before XLA starts its threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # not in every C library
        for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(option, value)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Block signals while JAX and other packages are imported: an interrupted import crashes or loses the signal."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM unwind the stack as Ctrl-C does, so that no partial file stays, and never lose either signal.

    Python cannot raise from a finalizer or a callback of the garbage collector: it prints a traceback and continues.
    A signal that arrives in one is sent again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        if isinstance(found.exc_value, KeyboardInterrupt | SystemExit):
            number = signal.SIGINT if isinstance(found.exc_value, KeyboardInterrupt) else signal.SIGTERM
            threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
        else:
            hook(found)

    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)
