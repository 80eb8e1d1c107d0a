"""`jomni eval codec`, `jomni eval talk` and `jomni eval turns`: measurements written into a report folder."""

from __future__ import annotations

import platform
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni.cli.arguments import MODEL, Parser, add_device, add_dtype, add_force, add_model, number, whole
from jomni.cli.console import say
from jomni.cli.model import codec_of, device, load_codec, load_model, mimi_of, open_model
from jomni.errors import ConfigError, JomniError
from jomni.extras import require
from jomni.progress import stages

if TYPE_CHECKING:
    from jomni.eval.full_duplex.test_set import Item


def codec_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni eval codec`."""
    parser.description = """\
Codes and decodes recordings, and compares: PESQ, STOI, SI-SNR, mel distance, use of the codebooks, and, where x.json
beside x.wav holds "text", the word error rate of an independent recogniser."""
    parser.epilog = """\
REPORT holds report.md, report.json, files.json, a plot and examples. docs/guides/evaluate.md defines the figures.

Example:
  jomni eval codec kyutai/moshiko-pytorch-bf16 recordings --codebooks 1 4 8 \\
      --out codec-report"""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("inputs", metavar="AUDIO", type=Path, nargs="+", help="recordings, or folders of them")
    _add_out(parser)
    parser.add_argument(
        "--codebooks",
        metavar="N",
        type=whole(1),
        nargs="+",
        help="numbers of codebooks to decode from (default: as many as the model uses; SNAC: all)",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=whole(1),
        help="take N of the recordings, always the same ones (default: all)",
    )
    parser.add_argument(
        "--batch", metavar="N", type=whole(1, 1024), default=8, help="recordings coded at once (default: 8)"
    )
    _add_common(parser)


def codec(options: Namespace) -> None:
    """Run `jomni eval codec`."""
    from jomni.eval.codec import scorecard
    from jomni.eval.codec.coders import Coder
    from jomni.eval.codec.report import book_table, score_table, write_report
    from jomni.eval.intervals import subsample
    from jomni.eval.report import report_folder

    require("eval", "librosa", "pystoi", "pocketsphinx", "jiwer")
    paths = subsample(scorecard.find_recordings(options.inputs), options.limit)
    sentences, pronunciations = _sentences(options.sentences), _pronunciations(options.pronunciations)
    with report_folder(options.out, force=options.force) as part:
        opened = open_model(options.model, codec_only=True)
        with stages() as progress, device(options.device) as chosen:
            name, used = codec_of(opened)
            numbers = options.codebooks or [used.num_codebooks]
            for number in numbers:
                codec_of(opened, number)
            coder = Coder(used, load_codec(options.model).params[name])
            recordings = []
            for count, path in enumerate(paths, 1):
                recordings.append(scorecard.read_recording(path, used.sample_rate))
                progress("reading", count, len(paths), "recordings")
            card = scorecard.evaluate(
                coder, recordings, numbers, sentences=sentences, pronunciations=pronunciations, batch=options.batch,
                processes=options.processes, progress=progress,
            )  # fmt: skip
        settings = _settings(options, chosen)
        write_report(part, card, recordings, settings, used.sample_rate)
    say(score_table(card))
    say(book_table(card))
    say(f"{options.out}: report.md, report.json, files.json, codec.png, examples")


def talk_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni eval talk`."""
    parser.description = """\
Holds the conversations of a test set with a model, in a closed loop as if live, and measures: correct answers, words
that a recogniser transcribes from the agent's audio, timing of turns, accuracy after half an hour of conversation, and
the time of a frame."""
    parser.epilog = """\
REPORT holds report.md, report.json, turns.jsonl (every turn), plots and examples. docs/guides/evaluate.md defines the
figures.

Example:
  jomni eval talk tests --out talk-report"""
    parser.add_argument("tests", metavar="TESTS", type=Path, help="the folder of a test set")
    add_model(parser)
    _add_out(parser)
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=whole(1, 1000),
        default=3,
        help="run every item with each of the seeds 0 to N - 1 (default: 3)",
    )
    parser.add_argument(
        "--slots", metavar="N", type=whole(1, 4096), default=32, help="conversations at once (default: 32)"
    )
    parser.add_argument(
        "--temperature",
        metavar="X",
        type=number(0, 100),
        help="sampling temperature of the audio; 0 takes the most likely (default: the model's own)",
    )
    parser.add_argument(
        "--text-temperature",
        metavar="X",
        type=number(0, 100),
        help="sampling temperature of the text; 0 takes the most likely (default: the model's own)",
    )
    parser.add_argument(
        "--limit", metavar="N", type=whole(1), help="take N items of each set, always the same ones (default: all)"
    )
    _add_replies(parser, "spoken replies that the recogniser transcribes")
    parser.add_argument(
        "--minutes",
        metavar="M",
        type=number(0, 600),
        default=30.0,
        help="ask the same questions at the start of a conversation and around this minute of it; "
        "0: hold no long conversations (default: 30)",
    )
    parser.add_argument(
        "--probes", metavar="N", type=whole(1), default=100, help="questions of the long conversations (default: 100)"
    )
    parser.add_argument(
        "--long-slots",
        metavar="N",
        type=whole(1, 1024),
        default=4,
        help="long conversations, which share the probes (default: 4)",
    )
    parser.add_argument(
        "--frames",
        metavar="N",
        type=whole(0),
        default=1000,
        help="frames timed, in one conversation; 0: none (default: 1000)",
    )
    add_dtype(parser, "number format of the language model")
    _add_common(parser)


def talk(options: Namespace) -> None:
    """Run `jomni eval talk`."""
    import jomni
    from jomni.eval.full_duplex.evaluation import LONGEST, Plan, evaluate
    from jomni.eval.full_duplex.replies import flite
    from jomni.eval.full_duplex.report import summary_table, write_report
    from jomni.eval.full_duplex.test_set import load_test_set
    from jomni.eval.report import report_folder

    if options.replies:
        require("eval", "pocketsphinx", "jiwer")
    items = _limited(load_test_set(options.tests), options.limit)
    sentences = _sentences(options.sentences or _beside(options.tests / "sentences.txt"))
    pronunciations = _pronunciations(options.pronunciations or _beside(options.tests / "pronunciations.dict"))
    with report_folder(options.out, force=options.force) as part:
        opened = open_model(options.model)
        mimi_of(opened)
        if "lm" not in opened.configs:
            raise ConfigError(f"{options.model}: is a codec alone. 'jomni eval codec' measures it.")
        if not opened.configs["lm"].dep_q:
            raise ConfigError(f"{options.model}: has no depth transformer, so it does not speak. Give a talking model.")
        with device(options.device) as chosen:
            checkpoint, dtype = load_model(options, chosen)
            duplex = jomni.Duplex.from_checkpoint(checkpoint)
            given = {"temperature": options.temperature, "text_temperature": options.text_temperature}
            plan = Plan(
                seeds=options.seeds, slots=options.slots, settings={k: v for k, v in given.items() if v is not None},
                replies=options.replies, minutes=options.minutes, probes=options.probes,
                long_slots=options.long_slots, frames=options.frames, sentences=sentences,
                pronunciations=pronunciations, processes=options.processes,
            )  # fmt: skip
            synthesise = flite()
            with stages() as progress:
                result = evaluate(
                    duplex, duplex.prepare(checkpoint.params), checkpoint.text_tokenizer(), items, plan, synthesise,
                    progress,
                )  # fmt: skip
        controls = duplex.controls(1, **plan.settings)
        sampling = {name: float(np.asarray(getattr(controls, name))[0])
                    for name in ("temperature", "text_temperature", "top_k", "text_top_k")}  # fmt: skip
        long = sum(item.seconds > LONGEST for item in items)
        settings = _settings(options, chosen) | sampling | {
            "dtype": dtype, "items": f"{len(items) - long}, and {long} left out that last over {LONGEST:g} s",
            "seeds": f"0 to {plan.seeds - 1}", "slots": plan.slots, "agent's sound": str(plan.rule),
            "reference of replies": "test set, else flite" if synthesise else "test set alone (flite is not installed)",
        }  # fmt: skip
        write_report(part, result, plan, settings)
    say(summary_table(result, plan))
    say(f"{options.out}: report.md, report.json, turns.jsonl, plots, examples; {result.seconds / 60:.1f} minutes")


_TASKS = ("T1-T2", "A1-T2", "A1-A2", "T1-A2", "A1-T1")  # `jomni.models.mini_omni.streams.Task`


def turns_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni eval turns`."""
    parser.description = """\
Asks a Mini-Omni every question of a set of spoken turns, as text and as speech, for answers in text and in speech. It
measures how many answers are correct word for word, and the word error rate of the spoken ones by an independent
recogniser. A text decoder is asked as text alone. Answers are greedy."""
    parser.epilog = """\
REPORT holds report.md, report.json, answers.jsonl (every answer) and examples.
docs/guides/evaluate.md defines the figures.

Example:
  jomni eval turns runs/omni_stage3/export turns.parquet \\
      --codec runs/omni_codec/export --out turns-report"""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("tests", metavar="TURNS", type=Path, help="a parquet file in VoiceAssistant-400K's schema")
    _add_out(parser)
    parser.add_argument(
        "--tasks",
        metavar="TASK",
        nargs="+",
        choices=_TASKS,
        help="tasks to measure, of "
        "T1-T2 (text to text), A1-T2 (speech to text), A1-A2 (speech to speech), T1-A2 (text to speech), "
        "A1-T1 (speech to its transcript) (default: all that the model does)",
    )
    parser.add_argument(
        "--codec", metavar="SNAC", help="codec of the spoken answers (default: the one beside the model)"
    )
    parser.add_argument(
        "--limit", metavar="N", type=whole(1), help="take N of the turns, always the same ones (default: all)"
    )
    parser.add_argument("--slots", metavar="N", type=whole(1, 4096), default=16, help="questions at once (default: 16)")
    parser.add_argument(
        "--seed", metavar="N", type=whole(0), default=0, help="seed of the noise that the codec adds (default: 0)"
    )
    parser.add_argument(
        "--voice",
        choices=("single", "batch_parallel"),
        default="single",
        help="how spoken answers are decoded: text and audio in one row, or, as Mini-Omni's "
        "batch-parallel decoding, the text in a row of its own (default: single)",
    )
    _add_replies(parser, "spoken replies of each task that the recogniser transcribes")
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out rows that cannot be used, and count them (default: refuse the file)",
    )
    add_dtype(parser, "number format of the language model")
    _add_common(parser)


def turns(options: Namespace) -> None:
    """Run `jomni eval turns`."""
    from jomni.data.turns.parquet import TurnSource, check_turns
    from jomni.eval.full_duplex.replies import flite
    from jomni.eval.intervals import subsample
    from jomni.eval.report import report_folder
    from jomni.eval.turn_based.adapters import AdapterConfig, make_adapter, unfit
    from jomni.eval.turn_based.evaluation import Plan, evaluate
    from jomni.eval.turn_based.report import task_table, write_report
    from jomni.models.mini_omni.streams import Task

    require("eval", "pocketsphinx", "jiwer")
    sentences, pronunciations = _sentences(options.sentences), _pronunciations(options.pronunciations)
    with report_folder(options.out, force=options.force) as part:
        opened = open_model(options.model)
        if "tokenizer.json" not in opened.files:
            raise ConfigError(
                f"{options.model}: has no tokenizer.json, so it takes no text. Give a Mini-Omni or a text decoder with "
                "its tokenizer; 'jomni eval talk' measures models that talk in full duplex."
            )
        voice = (opened if options.codec is None else open_model(options.codec, codec_only=True)).configs.get("snac")
        if options.codec is not None and voice is None:
            raise ConfigError(f"--codec {options.codec}: is no SNAC. Give the codec that the model was trained with.")
        report = check_turns(options.tests, unfit(opened.configs.get("whisper"), voice)).accepted(options.skip_bad)
        source = TurnSource([report])
        chosen_turns = [source[n] for n in subsample(range(len(source)), options.limit)]
        with device(options.device) as chosen:
            checkpoint, dtype = load_model(options, chosen)
            other = None if options.codec is None else load_codec(options.codec)
            held = other or checkpoint
            spoken = (held.configs["snac"], held.params["snac"]) if "snac" in held.configs else None
            config = AdapterConfig(min(options.slots, len(chosen_turns)), options.seed, options.voice)
            plan = Plan(
                replies=options.replies, sentences=sentences, pronunciations=pronunciations,
                processes=options.processes,
                tasks=[task for task in Task if options.tasks is None or task.value in options.tasks],
            )  # fmt: skip
            synthesise, adapter = flite(), make_adapter(checkpoint, other, chosen_turns, config)
            with stages() as progress:
                result = evaluate(adapter, chosen_turns, plan, spoken, synthesise, progress)
        settings = _settings(options, chosen) | {
            "dtype": dtype, "codec": options.codec or ("the model's own" if spoken else "none"),
            "turns": f"{len(chosen_turns)} of {len(source)}" + (f"; {report.summary()}" if report.problems else ""),
            "answers": f"greedy, spoken answers {config.voice}", "slots": config.slots,
            "reference of replies": "flite" if synthesise else "none (flite is not installed)",
        }  # fmt: skip
        write_report(part, result, settings)
    say(task_table(result))
    files = "report.md, report.json, answers.jsonl" + (", examples" if result.examples else "")
    say(f"{options.out}: {files}; {result.seconds / 60:.1f} minutes")


def _settings(options: Namespace, chosen: Any) -> dict[str, Any]:
    from jomni.cli.report import versions

    return {
        "model": options.model,
        "data": ", ".join(str(path) for path in getattr(options, "inputs", None) or [options.tests]),
        "device": f"{chosen.platform}: {chosen.device_kind}; {platform.machine()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def _sentences(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise JomniError(f"{path}: the sentences cannot be read ({error}). Give a text file, one a line.") from None


def _pronunciations(path: Path | None) -> dict[str, list[str]]:
    from jomni.eval.recogniser import read_pronunciations

    return {} if path is None else read_pronunciations(path)


def _beside(path: Path) -> Path | None:
    return path if path.is_file() else None


def _limited(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most so many items of each set (cell, else folder)."""
    from jomni.eval.intervals import subsample

    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.turns[0].cell, []).append(item)
    return [item for group in groups.values() for item in subsample(group, limit)]


def _add_replies(parser: Parser, what: str) -> None:
    parser.add_argument("--replies", metavar="N", type=whole(0), default=300, help=f"{what}; 0: none (default: 300)")


def _add_out(parser: Parser) -> None:
    parser.add_argument(
        "--out",
        metavar="REPORT",
        type=Path,
        required=True,
        help="folder for the report, written whole or not at all (required)",
    )


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--sentences",
        metavar="FILE",
        type=Path,
        help="sentences that may be said, one a line, for the recogniser's language model, beside those of the test "
        "itself (default: sentences.txt in a test set, where there is one)",
    )
    parser.add_argument(
        "--pronunciations",
        metavar="FILE",
        type=Path,
        help="pronunciations of words that the recogniser's dictionary lacks, in the form of the CMU dictionary, as "
        "'oink OY NG K' (default: pronunciations.dict in a test set, where there is one)",
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=whole(1, 1024),
        help="processes of the recogniser and the measures (default: one for each core)",
    )
    add_device(parser)
    add_force(parser, "replace a report that exists")
