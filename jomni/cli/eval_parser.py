"""The grammar of `jomni eval`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from jomni.cli.arguments import DTYPES, MODEL, Parser, add_device, add_model, number, whole


def add_eval(group: argparse._SubParsersAction[Parser], formatter: type[argparse.HelpFormatter]) -> dict[str, Parser]:
    """Add `eval` to the commands; return its own commands by their full names."""
    parser = group.add_parser(
        "eval", help="measure a codec, or a talking model", formatter_class=formatter, allow_abbrev=False,
        description="Measures a codec, or a talking or turn-based model on a test set. Needs: "
        "pip install 'jomni[eval]'",
    )  # fmt: skip
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True, title="what", parser_class=Parser)
    builders: dict[str, Callable[[Parser], None]] = {"codec": _codec, "talk": _talk, "turns": _turns}
    commands = {}
    for name, build in builders.items():
        summary = (build.__doc__ or "").rstrip(".")
        commands[f"eval {name}"] = made = inner.add_parser(
            name, help=summary[0].lower() + summary[1:], formatter_class=formatter, allow_abbrev=False
        )
        build(made)
    return commands


def _codec(parser: Parser) -> None:
    """Measure what a codec loses."""
    parser.description = """\
Codes and decodes recordings, and compares: PESQ, STOI, SI-SNR, mel distance, use of the codebooks, and, where x.json
beside x.wav holds "text", how many words an independent recogniser mishears."""
    parser.epilog = """\
REPORT holds report.md, report.json, files.json, a plot and examples. docs/guides/evaluate.md defines the figures.

Example:
  jomni eval codec kyutai/moshiko-pytorch-bf16 recordings --codebooks 1 4 8 --out codec-report"""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("inputs", metavar="AUDIO", type=Path, nargs="+", help="recordings, or folders of them")
    _add_out(parser)
    parser.add_argument(
        "--codebooks", metavar="N", type=whole(1), nargs="+",
        help="numbers of codebooks to decode from (default: as many as the model uses; SNAC: all)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", metavar="N", type=whole(1),
        help="take N of the recordings, always the same ones (default: all)",
    )  # fmt: skip
    parser.add_argument("--batch", metavar="N", type=whole(1, 1024), default=8,
                        help="recordings coded at once (default: 8)")  # fmt: skip
    _add_common(parser)


def _talk(parser: Parser) -> None:
    """Measure how a model talks."""
    parser.description = """\
Talks with a model through a test set, in a closed loop as if live, and measures its answers, what its voice really
says, how it behaves in time, how it fares in a conversation of half an hour, and how long a frame takes."""
    parser.epilog = """\
REPORT holds report.md, report.json, turns.jsonl (every turn), plots and examples. docs/guides/evaluate.md defines the
figures. The table of goals is printed too.

Example:
  jomni eval talk tests --out talk-report"""
    parser.add_argument("tests", metavar="TESTS", type=Path, help="the folder of a test set")
    add_model(parser)
    _add_out(parser)
    parser.add_argument("--seeds", metavar="N", type=whole(1, 1000), default=3,
                        help="talk through every item with the seeds 0 to N - 1 (default: 3)")  # fmt: skip
    parser.add_argument("--slots", metavar="N", type=whole(1, 4096), default=32,
                        help="conversations at once (default: 32)")  # fmt: skip
    parser.add_argument("--temperature", metavar="X", type=number(0, 100),
                        help="of the voice; 0 takes the likeliest (default: the model's own)")  # fmt: skip
    parser.add_argument("--text-temperature", metavar="X", type=number(0, 100),
                        help="of the text; 0 takes the likeliest (default: the model's own)")  # fmt: skip
    parser.add_argument("--limit", metavar="N", type=whole(1),
                        help="take N items of each set, always the same ones (default: all)")  # fmt: skip
    parser.add_argument("--replies", metavar="N", type=whole(0), default=300,
                        help="spoken replies that the recogniser hears; 0: none (default: 300)")  # fmt: skip
    parser.add_argument("--minutes", metavar="M", type=number(0, 600), default=30.0,
                        help="ask the same questions at the start of a conversation and around this minute of it; "
                        "0: hold no long conversations (default: 30)")  # fmt: skip
    parser.add_argument("--probes", metavar="N", type=whole(1), default=100,
                        help="questions of the long conversations (default: 100)")  # fmt: skip
    parser.add_argument("--long-slots", metavar="N", type=whole(1, 1024), default=4,
                        help="long conversations, which share the probes (default: 4)")  # fmt: skip
    parser.add_argument("--frames", metavar="N", type=whole(0), default=1000,
                        help="frames timed, in one conversation; 0: none (default: 1000)")  # fmt: skip
    parser.add_argument("--dtype", metavar="T", choices=DTYPES,
                        help="of the language model (default: float32 on a CPU, else bfloat16)")  # fmt: skip
    _add_common(parser)


_TASKS = ("T1-T2", "A1-T2", "A1-A2", "T1-A2", "A1-T1")  # `jomni.models.mini_omni.streams.Task`


def _turns(parser: Parser) -> None:
    """Measure how a turn-based model answers."""
    parser.description = """\
Asks a Mini-Omni every question of a set of spoken turns, in writing and by voice, answered in text and aloud, and
measures how many answers are right to the word, and what an independent recogniser hears in the spoken ones. A text
decoder is asked in writing alone. Answers are greedy."""
    parser.epilog = """\
REPORT holds report.md, report.json, answers.jsonl (every answer) and examples.
docs/guides/evaluate.md defines the figures.

Example:
  jomni eval turns runs/omni_stage3/export turns.parquet --codec runs/omni_codec/export --out turns-report"""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("tests", metavar="TURNS", type=Path, help="a parquet file in VoiceAssistant-400K's schema")
    _add_out(parser)
    parser.add_argument("--tasks", metavar="TASK", nargs="+", choices=_TASKS, help="what is asked, of T1-T2 (read, "
                        "answer in text), A1-T2 (hear, answer in text), A1-A2 and T1-A2 (answer aloud), A1-T1 (hear, "
                        "write it down) (default: all that the model does)")  # fmt: skip
    parser.add_argument("--codec", metavar="SNAC", help="the codec that it speaks with (default: what lies beside it)")
    parser.add_argument("--limit", metavar="N", type=whole(1),
                        help="take N of the turns, always the same ones (default: all)")  # fmt: skip
    parser.add_argument("--slots", metavar="N", type=whole(1, 4096), default=16,
                        help="questions at once (default: 16)")  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0,
                        help="of the noise that the codec adds (default: 0)")  # fmt: skip
    parser.add_argument("--voice", choices=("single", "batch_parallel"), default="single",
                        help="how spoken answers are made: text and audio together, or, as Mini-Omni's batch-parallel "
                        "decoding, the text by a row of its own (default: single)")  # fmt: skip
    parser.add_argument("--replies", metavar="N", type=whole(0), default=300,
                        help="spoken replies of a kind that the recogniser hears; 0: none (default: 300)")  # fmt: skip
    parser.add_argument("--skip-bad", action="store_true",
                        help="leave rows out that cannot be used, counted (default: refuse the file)")  # fmt: skip
    parser.add_argument("--dtype", metavar="T", choices=DTYPES,
                        help="of the language model (default: float32 on a CPU, else bfloat16)")  # fmt: skip
    _add_common(parser)


def _add_out(parser: Parser) -> None:
    parser.add_argument("--out", metavar="REPORT", type=Path, required=True,
                        help="folder for the report, written whole or not at all (required)")  # fmt: skip


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--sentences", metavar="FILE", type=Path,
        help="sentences that may be said, one a line, for the recogniser's language model, beside those of the test "
        "itself (default: sentences.txt in a test set, where there is one)",
    )  # fmt: skip
    parser.add_argument("--processes", metavar="N", type=whole(1, 1024),
                        help="processes of the recogniser and the measures (default: one for each core)")  # fmt: skip
    add_device(parser)
    parser.add_argument("--force", action="store_true", help="replace a report that exists (default: refuse)")
