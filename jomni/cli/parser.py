"""The command line's grammar and help texts. Imports nothing heavy, so that help comes at once."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from jomni.cli.arguments import (
    DTYPES,
    FORCE,
    LAYOUTS,
    MAX_TAIL,
    MODEL,
    Formatter,
    Parser,
    add_device,
    add_model,
    number,
    whole,
)
from jomni.cli.eval_parser import add_eval


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of one command, its name in `command`; exits after a help text and for arguments without sense."""
    top, commands = _parsers()
    if argv[:1] == ["eval"] and " ".join(argv[:2]) in commands:
        argv = [" ".join(argv[:2]), *argv[2:]]
    if argv and argv[0] in commands:
        # Options may stand between the recordings of `talk`: plain parse_args would refuse that. What follows the
        # configuration of `train` is the configuration's own.
        parser = commands[argv[0]]
        read = parser.parse_args if argv[0] == "train" else parser.parse_intermixed_args
        options = read(list(argv[1:]))
        options.command = argv[0]
        if argv[0] == "talk" and bool(options.inputs) == (options.ask is not None):
            parser.error("give something to talk about: either recordings IN.wav ..., or --ask TEXT")
        return options
    return top.parse_args(list(argv))


def help_texts() -> dict[str, str]:
    """Return every help text: the general one under "", each command's under its name."""
    top, commands = _parsers()
    return {"": top.format_help()} | {name: parser.format_help() for name, parser in commands.items()}


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    top = Parser(
        prog="jomni",
        description="End-to-end speech dialogue in JAX: Moshi and Mini-Omni, with their codecs.",
        epilog="""\
A model M is nano, which comes with jomni, a folder, a weight file, or a Hugging Face repository id. Examples:
  jomni talk question.wav
  jomni talk question.wav --model kyutai/moshiko-pytorch-bf16 --out answers --plot

'jomni COMMAND --help' explains one command and gives an example of it.
Exit code: 0 for success; 2 for a mistake in the arguments or inputs, said on stderr, with nothing written;
130 when interrupted, with nothing written.""",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"jomni {importlib.metadata.version('jomni')}")
    group = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands", parser_class=Parser)
    commands: dict[str, Parser] = {}
    for build in (_encode, _decode, _talk, _chat, _info, _convert, _tokenize, _self_rollout, _train):
        name, summary = build.__name__[1:].replace("_", "-"), (build.__doc__ or "").rstrip(".")
        commands[name] = group.add_parser(
            name, help=summary[0].lower() + summary[1:], formatter_class=Formatter, allow_abbrev=False
        )
        build(commands[name])

    return top, commands | add_eval(group, Formatter)


def _encode(parser: Parser) -> None:
    """Turn a recording into codes."""
    parser.description = """\
Turns a recording into codes, in constant memory however long it is.
Any sampling rate, number of channels and format that libsndfile reads is taken (WAV, FLAC, OGG, MP3, AIFF, ...);
it is mixed down to one channel and resampled to the codec's rate, and the output says so."""
    parser.epilog = """\
OUT.npz holds codes (int32, codebooks by frames), frame_rate and sample_rate (Hz), num_samples (at sample_rate,
so that decoding can end where the recording did) and model. Of SNAC, whose codebooks have different rates, it holds
codes_0, codes_1, ... (int32, coarse to fine) in place of codes.

Example:
  jomni encode question.mp3 question.npz --model kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("input", metavar="IN.wav", type=Path, help="the recording")
    parser.add_argument("output", metavar="OUT.npz", type=Path, help="where the codes go")
    add_model(parser)
    parser.add_argument(
        "--codebooks", metavar="N", type=whole(1),
        help="how many codebooks, coarse to fine (default: as many as the model uses, 8 for Mimi alone, all for SNAC)",
    )  # fmt: skip
    add_device(parser)
    parser.add_argument("--force", action="store_true", help=FORCE)


def _decode(parser: Parser) -> None:
    """Turn codes back into audio."""
    parser.description = "Turns codes back into audio, in constant memory however long they are."
    parser.epilog = """\
The codes are those of 'jomni encode', or any npz file with an integer array 'codes' (codebooks by frames); their
number of codebooks may be anything up to the codec's. For SNAC: 'codes_0', 'codes_1', ..., all of its codebooks.
Samples beyond full scale are limited, and counted.

Example:
  jomni decode question.npz question-decoded.wav --model kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("input", metavar="IN.npz", type=Path, help="the codes")
    parser.add_argument("output", metavar="OUT.wav", type=Path, help="the audio, 16-bit, ending in .wav or .flac")
    add_model(parser)
    add_device(parser)
    parser.add_argument("--force", action="store_true", help=FORCE)


def _talk(parser: Parser) -> None:
    """Hold a conversation: recordings in, spoken answers out."""
    parser.description = """\
Holds a conversation with each recording, frame by frame as if live. After a recording ends, silence is fed until
the agent has been silent for 2 s. A model that takes turns (Mini-Omni) hears the recording whole, and its answer's text
is printed as it comes. Several recordings are run as one batch; none affects another."""
    parser.epilog = """\
For a recording NAME.wav it writes
  DIR/NAME.wav   the agent's voice: sample n is what a live listener hears n / rate s after the recording began
  DIR/NAME.json  the text with a time for each piece, every frame's tokens and milliseconds, settings, versions
  DIR/NAME.png   with --plot: both waveforms over the text, on one time axis
A second recording of the same name becomes NAME-2, and the answer to --ask is called ask. Where there is no voice
(speech to text, --answer text) no audio is written. Of Mini-Omni NAME.wav is the answer alone.

Examples:
  jomni talk question.wav
  jomni talk question.wav follow-up.mp3 --model kyutai/moshiko-pytorch-bf16 --out answers --seed 1 --plot
  jomni talk question.wav --model gpt-omni/mini-omni --codec hubertsiuzdak/snac_24khz"""
    parser.add_argument("inputs", metavar="IN.wav", type=Path, nargs="*", help="recordings of the user")
    add_model(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("jomni-talk"),
        help="folder for the results, made where it is missing (default: jomni-talk)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="N", type=whole(0, 2**31 - 1), default=0,
        help="seed of the sampling: the first recording's, N + 1 is the next one's, and so on; the same seed and "
        "number of recordings give the same conversations (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", metavar="X", type=number(0, 100),
        help="how freely the agent's voice is sampled, of Mini-Omni its text too; 0 takes the likeliest "
        "(default: the model's own, else 0.8; Mini-Omni: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--text-temperature", metavar="X", type=number(0, 100),
        help="how freely the agent's text is sampled; 0 takes the likeliest (default: the model's own, else 0.7)",
    )  # fmt: skip
    parser.add_argument(
        "--tail", metavar="S", type=number(0, MAX_TAIL),
        help=f"longest silence fed after a recording ends, in seconds, 0 to {MAX_TAIL:g} (default: {MAX_TAIL:g})",
    )  # fmt: skip
    parser.add_argument("--plot", action="store_true", help="draw DIR/NAME.png too (default: no picture)")
    turns = parser.add_argument_group("models that take turns (Mini-Omni)")
    turns.add_argument("--ask", metavar="TEXT", help="a question in writing, in place of recordings (default: none)")
    turns.add_argument(
        "--conversation", action="store_true",
        help="the recordings are the turns of one conversation, each asked when the one before is answered (default: a "
        "conversation each)",
    )  # fmt: skip
    turns.add_argument(
        "--answer", metavar="KIND", choices=("speech", "text", "transcript"),
        help="speech, with its text; text alone; or the transcript of what was heard (default: speech)",
    )  # fmt: skip
    turns.add_argument("--system", metavar="TEXT", help="a text that stands before the question (default: none)")
    turns.add_argument(
        "--codec", metavar="M", help="a SNAC to speak with, for a model that brings none (default: the model's own)"
    )
    turns.add_argument(
        "--top-k", metavar="N", type=whole(1),
        help="tokens that compete where --temperature is above 0 (default: all)",
    )  # fmt: skip
    turns.add_argument(
        "--max-tokens", metavar="N", type=whole(1),
        help="longest answer: tokens of text, or frames of voice and 7 more (default: 1024)",
    )  # fmt: skip
    turns.add_argument(
        "--parallel", action="store_true",
        help="write the answer apart and say what was written: as good as text alone, at twice the work (default: one "
        "row says and writes)",
    )  # fmt: skip
    add_device(parser)
    parser.add_argument(
        "--dtype", metavar="T", choices=DTYPES,
        help="number format of the language model: float32, bfloat16 or float16; the codec computes in float32 "
        "(default: float32 on a CPU, bfloat16 elsewhere)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help=FORCE)


def _chat(parser: Parser) -> None:
    """Talk in text with a language model."""
    parser.description = """\
Talks in text with a language model: Qwen 2, 2.5 or 3, Llama 3, SmolLM 2, Gemma 2 or 3 (text) as Hugging Face keeps
them. With a PROMPT it gives one answer. Without, it reads one from standard input, or holds a conversation if that is a
terminal: Ctrl-C ends an answer, Ctrl-D the conversation."""
    parser.epilog = """\
Answers go to stdout as they come, everything else to stderr.

Example:
  jomni chat Hello --model Qwen/Qwen2.5-0.5B-Instruct"""
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to say to the model")
    parser.add_argument(
        "--model", metavar="M", required=True,
        help="the model: a folder or a Hugging Face repository id, with @REVISION for one revision of it (required)",
    )  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", help="system prompt (default: none, or the model's own)")
    parser.add_argument(
        "--temperature", metavar="X", type=number(0, 100),
        help="how freely the answer is sampled; 0 takes the likeliest (default: the model's own, else 0)",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", metavar="N", type=whole(1), default=512, help="longest answer in tokens (default: 512)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=whole(0, 2**31 - 1), default=0, help="seed of the sampling (default: 0)"
    )
    parser.add_argument(
        "--context", metavar="N", type=whole(2),
        help="tokens that the conversation may have in all (default: 4096, or the model's most)",
    )  # fmt: skip
    add_device(parser)
    parser.add_argument(
        "--dtype", metavar="T", choices=DTYPES,
        help="number format of the model: float32, bfloat16 or float16 (default: float32 on a CPU, bfloat16 elsewhere)",
    )  # fmt: skip


def _info(parser: Parser) -> None:
    """Say what a model consists of, without reading its weights."""
    parser.description = """\
Says what a model consists of: family, parameters by part, codec, delays, context, and the bytes that its weights
take in float32, bfloat16 and int8. Reads only the configuration and the headers of the weight files."""
    parser.epilog = """\
Example:
  jomni info kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("model", metavar="M", nargs="?", default="nano", help=f"{MODEL} (default: nano)")


def _convert(parser: Parser) -> None:
    """Write a model in another layout or dtype."""
    parser.description = "Writes a model in another layout, or in another number format."
    parser.epilog = """\
Layouts: kyutai (config.json and safetensors, as Kyutai publishes), snac (SNAC's config.json and names, in safetensors),
openai (a Whisper's encoder under OpenAI's names),
hf (Hugging Face transformers), orbax (jomni's own). A layout that cannot express the model refuses it, saying why.

Example:
  jomni convert kyutai/moshiko-pytorch-bf16 moshiko-orbax --to orbax --dtype bfloat16"""
    parser.add_argument("source", metavar="SRC", help=MODEL)
    parser.add_argument("target", metavar="DST", type=Path, help="folder for the converted model")
    parser.add_argument("--to", metavar="LAYOUT", choices=LAYOUTS,
                        help="kyutai, snac, openai, hf or orbax (default: that of the model's authors)")  # fmt: skip
    parser.add_argument("--dtype", metavar="T", choices=DTYPES,
                        help="number format of the language model or encoder: float32, bfloat16 or float16 "
                        "(default: as it is)")  # fmt: skip
    parser.add_argument("--codec-dtype", metavar="T", choices=DTYPES,
                        help="number format of the codec in the file; it always computes in float32 "
                        "(default: as it is)")  # fmt: skip
    parser.add_argument("--force", action="store_true",
                        help="replace DST if it holds a model already (default: refuse)")  # fmt: skip


def _tokenize(parser: Parser) -> None:
    """Turn a data set of conversations into codes, to train on."""
    parser.description = """\
Turns a data set of conversations into codes, in shards that appear whole or not at all. The same command again goes
on where a run ended, also after a kill; another codec or manifest is refused."""
    parser.epilog = """\
MANIFEST is in the layout of moshi-finetune: JSON lines, one for each recording, with its path, relative to the
manifest, and its duration in seconds:
  {"path": "data/x.wav", "duration": 12.3}
Recordings are stereo, left the agent and right the user, at the codec's own rate; beside x.wav lies x.json:
  {"alignments": [["word", [start, end], "SPEAKER_MAIN"], ...]}
Everything is checked first, and every file with a problem is listed; nothing is resampled or mixed.

Example:
  jomni tokenize conversations/train.jsonl codes/train --model kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="the data set")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder for the codes, made where it is missing")
    add_model(parser)
    parser.add_argument(
        "--codebooks", metavar="K", type=whole(1),
        help="codebooks of each voice, coarse to fine (default: as many as the model uses, 8 for Mimi alone)",
    )  # fmt: skip
    parser.add_argument(
        "--shard-size", metavar="N", type=whole(1), default=256, help="conversations in each shard (default: 256)"
    )
    parser.add_argument(
        "--batch", metavar="B", type=whole(2), default=16,
        help="voices encoded at once, two of each conversation (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad recordings out, list and count them (default: refuse)"
    )
    add_device(parser)


def _self_rollout(parser: Parser) -> None:
    """Sample the agent's codes of tokenised conversations from a model, to train on."""
    parser.description = """\
Writes a folder of codes anew, with the agent's part as a model says it beside the recorded one: text and user are
given, the voice is the model's own. Training with task.data.own_share then hears what it will hear when it talks: a
recorded voice tells by its melody how much is still to be said, and a model that leans on that stops too early or too
late. The same command again goes on where a run ended, also after a kill."""
    parser.epilog = """\
The words become text as in the training that it is for: --text-lead, --audio-delay and --keep-and-shift are the fields
of the same names of task.data.

Example:
  jomni self-rollout data/codes data/self_rollout --model runs/nano_lm/export --text-lead 2 --keep-and-shift"""
    parser.add_argument("codes", metavar="CODES", type=Path, help="made by jomni tokenize")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write, made where it is missing")
    add_model(parser)
    parser.add_argument(
        "--text-lead", metavar="N", type=whole(0), default=0, help="words by which the text is ahead (default: 0)"
    )
    parser.add_argument(
        "--audio-delay", metavar="S", type=number(-10, 10), default=0.0,
        help="seconds by which the text is ahead of the audio (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-and-shift",
        action="store_true",
        help="queue a word's tokens behind those of words before it (default: cut those off)",
    )
    parser.add_argument(
        "--batch", metavar="B", type=whole(1), default=32, help="conversations spoken at once (default: 32)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=whole(0, 2**31 - 1), default=0, help="seed of the sampling (default: 0)"
    )
    add_device(parser)


def _train(parser: Parser) -> None:
    """Train a model, or go on training it."""
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
