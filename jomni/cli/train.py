"""`jomni train`: a configuration file, its fields overridden, and the loop."""

from __future__ import annotations

import argparse
import sys
import textwrap

from jomni.cli.arguments import Parser
from jomni.cli.console import say
from jomni.extras import require

INTERRUPTED = 130


def train_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni train`."""
    parser.description = """\
Trains what a configuration describes. The run's folder, OUT/NAME of the configuration, gets config.json,
metrics.jsonl, tensorboard/, checkpoints/ and, at the end, export/: the weights in Kyutai's layout.
The same command again resumes where the folder left off, also after a kill; SIGTERM or Ctrl-C finishes the step and
saves first."""
    parser.epilog = """\
Every field of the configuration can be set, groups with dots; CONFIG --help lists them with their values.
Exit code 130 or 143: stopped by a signal, with everything saved.

Examples:
  jomni train tiny_lm --help
  jomni train tiny_lm --steps 500 --task.optimizer.lr 1e-3"""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a configuration that comes with jomni (tiny_lm, nano/lm, ...), or a Python file with get_config()",
    )
    overrides = parser.add_argument(
        "overrides", metavar="--FIELD VALUE", nargs=argparse.REMAINDER,
        help="fields of the configuration to set (default: as the file has them)",
    )  # fmt: skip
    overrides.required = False  # which Python before 3.12 takes it for


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
