"""`jomni train`: a configuration file, its fields overridden, and the loop."""

from __future__ import annotations

import argparse
import sys
import textwrap

from jomni.cli.console import say
from jomni.extras import require

INTERRUPTED = 130


def train(options: argparse.Namespace) -> None:
    """Run the training that a configuration file describes."""
    require("train", "optax", "grain", "array_record", "tensorboardX")
    from jomni.train import loop
    from jomni.train.config_files import read_config
    from jomni.train.overrides import override

    config = read_config(options.config)
    overrides = [text for text in options.overrides if text not in ("-h", "--help")]
    config = override(config, overrides)
    if len(overrides) < len(options.overrides):
        _help(config)
        return
    try:
        loop.train(config, say)
    except loop.Stopped as stopped:
        print(
            f"jomni train: stopped at step {stopped.step}; everything is saved, the same command resumes",
            file=sys.stderr,
        )
        raise SystemExit(128 + stopped.signum) from None
    except KeyboardInterrupt:
        print("jomni train: interrupted; the same command goes on after the last checkpoint", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _help(config: object) -> None:
    """Print every field with its type, value and meaning."""
    from jomni.train.overrides import fields

    for name, kind, value, comment, _ in fields(config):
        say(f"--{name} {kind} = {_shown(value)}")
        if comment:
            say(textwrap.indent(textwrap.fill(comment, 90), "    "))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)
