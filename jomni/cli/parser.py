"""The list of commands, and the parser of the command line. Each command's module declares its arguments.

There, `COMMAND_arguments(parser)` declares them and `COMMAND(options)` runs the command. The modules import nothing
heavy at their top, so that help comes at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

from jomni.cli.arguments import Formatter, Parser


class Command(NamedTuple):
    """Where a command is found, and what it does."""

    module: str  # of jomni.cli
    summary: str


COMMANDS = {
    "encode": Command("codes", "turn a recording into codes"),
    "decode": Command("codes", "turn codes back into audio"),
    "talk": Command("talk", "hold a conversation: recordings in, spoken answers out"),
    "chat": Command("chat", "talk in text with a language model"),
    "info": Command("info", "list what a model consists of, without reading its weights"),
    "convert": Command("info", "write a model in another layout or dtype"),
    "tokenize": Command("tokenize", "turn a data set of conversations into codes, to train on"),
    "self-rollout": Command("self_rollout", "sample the agent's codes of tokenised conversations from a model"),
    "train": Command("train", "train a model, or go on training it"),
    "eval codec": Command("eval", "measure what a codec loses"),
    "eval talk": Command("eval", "measure how a full-duplex model talks"),
    "eval turns": Command("eval", "measure how a turn-based model answers"),
}

_EPILOG = """\
A model M is nano, which comes with jomni, a folder, a weight file, or a Hugging Face repository id. Examples:
  jomni talk question.wav
  jomni talk question.wav --model kyutai/moshiko-pytorch-bf16 --plot

'jomni COMMAND --help' explains one command and gives an example of it.

Exit code: 0 for success; 2 for a mistake in the arguments or inputs, reported on stderr, with nothing written;
130 when interrupted, with nothing written."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of one command, its name in `command`.

    Raises:
      SystemExit: a help text was asked for (code 0), or the arguments are wrong (code 2).
    """
    name = " ".join(argv[:2]) if argv[:1] == ["eval"] else " ".join(argv[:1])
    if name not in COMMANDS:
        return _overview().parse_args(list(argv))  # help, version, or a mistake
    parser = command_parser(name)
    # Options may stand between the recordings of `talk`, which plain parse_args refuses. What follows the configuration
    # of `train` is the configuration's own.
    read = parser.parse_args if name == "train" else parser.parse_intermixed_args
    options = read(list(argv[len(name.split()) :]))
    options.command = name
    return options


def command_module(name: str) -> ModuleType:
    """Return the module of a command."""
    return importlib.import_module(f"jomni.cli.{COMMANDS[name].module}")


def command_function(name: str) -> Callable[[argparse.Namespace], None]:
    """Return the function that runs a command."""
    function: Callable[[argparse.Namespace], None] = getattr(command_module(name), _identifier(name))
    return function


def command_parser(name: str) -> Parser:
    """Return the parser of one command's arguments."""
    parser = Parser(prog=f"jomni {name}", formatter_class=Formatter, allow_abbrev=False)
    getattr(command_module(name), f"{_identifier(name)}_arguments")(parser)
    return parser


def help_texts() -> dict[str, str]:
    """Return every help text: the general one under "", each command's under its name."""
    return {"": _overview().format_help()} | {name: command_parser(name).format_help() for name in COMMANDS}


def _identifier(name: str) -> str:
    return name.removeprefix("eval ").replace("-", "_")


def _overview() -> Parser:
    """Return the parser of the arguments before a command, which lists the commands."""
    top = Parser(
        prog="jomni", formatter_class=Formatter, allow_abbrev=False, epilog=_EPILOG,
        description="End-to-end speech dialogue in JAX: Moshi and Mini-Omni, with their codecs.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"jomni {importlib.metadata.version('jomni')}")
    group = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands", parser_class=Parser)
    measured = None
    for name, (_, summary) in COMMANDS.items():
        if not name.startswith("eval "):
            group.add_parser(name, help=summary)
            continue
        if measured is None:
            text = "measure a codec, or a model that talks"
            measured = group.add_parser(
                "eval", help=text, formatter_class=Formatter, allow_abbrev=False,
                description=f"{text.capitalize()}. Needs: pip install 'jomni[eval]'",
            ).add_subparsers(dest="what", metavar="WHAT", required=True, title="what", parser_class=Parser)  # fmt: skip
        measured.add_parser(name.removeprefix("eval "), help=summary)
    return top
