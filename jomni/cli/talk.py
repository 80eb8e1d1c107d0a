"""`jomni talk`: conversations with recordings, and the files that describe them.

A model of full duplex (Moshi) and one that takes turns (Mini-Omni) are each a `_Talker`: it checks what was asked for
before any weights are read, and then answers all recordings. Output files and messages are the same for both.
"""

from __future__ import annotations

import abc
import json
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from jomni import audio
from jomni.cli.arguments import Parser, add_device, add_dtype, add_force, add_model, add_seed, number, whole
from jomni.cli.console import meter, say, say_recording, tell, working
from jomni.cli.files import Place, output_files, unique_names, write_audio, writing
from jomni.cli.model import device, load_codec, load_model, mimi_of, open_model, refuse_options
from jomni.cli.report import (
    Steps,
    answer_report,
    answer_summary,
    conversation_report,
    conversation_summary,
    write_report,
)
from jomni.errors import AudioError, ConfigError, PromptError

if TYPE_CHECKING:
    from jomni.checkpoints.checkpoint import CheckpointSource
    from jomni.models.mini_omni.chat import OmniChat
    from jomni.models.moshi.conversation import Transcript
    from jomni.models.snac.config import SnacConfig

DUPLEX_OPTIONS = ("text_temperature", "tail", "plot")
"""Options that only models of full duplex have."""
TURN_OPTIONS = ("ask", "conversation", "answer", "system", "codec", "top_k", "max_tokens", "voice")
"""Options that only models have that take turns."""
MAX_TAIL = 20.0
"""Longest silence that is fed after a recording, seconds."""
MAX_TOKENS = 1024
ASKED = "ask"
"""Name of the results of a question in writing."""


def talk_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni talk`."""
    parser.description = """\
Holds a conversation with each recording, frame by frame as if live. After a recording ends, silence is fed until
the agent has been silent for 2 s. A model that takes turns (Mini-Omni) reads the recording whole, and its answer's text
is printed as it comes. Several recordings are run as one batch; none affects another."""
    parser.epilog = """\
For a recording NAME.wav it writes
  DIR/NAME.wav   the agent's audio: sample n is what a live listener hears
                 n / rate seconds after the recording began
  DIR/NAME.json  the text with a time for each piece, every frame's tokens and
                 milliseconds, settings, versions
  DIR/NAME.png   with --plot: both waveforms over the text, on one time axis
A second recording of the same name becomes NAME-2, and the answer to --ask is called ask. Where there is no audio
(speech to text, --answer text) none is written. Of Mini-Omni NAME.wav is the answer alone.

Examples:
  jomni talk question.wav
  jomni talk question.wav follow-up.mp3 --out answers --seed 1 --plot
  jomni talk question.wav --model kyutai/moshiko-pytorch-bf16
  jomni talk question.wav --model gpt-omni/mini-omni \\
      --codec hubertsiuzdak/snac_24khz"""
    parser.add_argument("inputs", metavar="IN.wav", type=Path, nargs="*", help="recordings of the user")
    add_model(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("jomni-talk"),
        help="folder for the results, made where it is missing (default: jomni-talk)",
    )  # fmt: skip
    add_seed(
        parser, "seed of the sampling: the first recording's, N + 1 is the next one's, and so on; the same seed and "
        "number of recordings give the same conversations"
    )  # fmt: skip
    parser.add_argument(
        "--temperature", metavar="X", type=number(0, 100),
        help="sampling temperature of the agent's audio, of Mini-Omni of its text too; 0 takes the most likely "
        "(default: the model's own, else 0.8; Mini-Omni: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--text-temperature", metavar="X", type=number(0, 100),
        help="sampling temperature of the agent's text; 0 takes the most likely (default: the model's own, else 0.7)",
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
        help="speech, with its text; text alone; or the transcript of the recording (default: speech)",
    )  # fmt: skip
    turns.add_argument("--system", metavar="TEXT", help="a text that stands before the question (default: none)")
    turns.add_argument(
        "--codec", metavar="M", help="a SNAC to speak with, for a model that brings none (default: the model's own)"
    )
    turns.add_argument(
        "--top-k", metavar="N", type=whole(1), help="tokens that compete where --temperature is above 0 (default: all)"
    )
    turns.add_argument(
        "--max-tokens", metavar="N", type=whole(1),
        help="longest answer: tokens of text, or frames of audio and 7 more (default: 1024)",
    )  # fmt: skip
    turns.add_argument(
        "--voice", choices=("single", "batch_parallel"),
        help="how spoken answers are decoded: text and audio in one row, or, as Mini-Omni's batch-parallel decoding, "
        "the text in a row of its own, at twice the work (default: single)",
    )  # fmt: skip
    add_device(parser)
    add_dtype(parser, "number format of the language model; the codec computes in float32")
    add_force(parser)


class Answer(NamedTuple):
    """The answer to one recording or question."""

    report: dict[str, Any]  # content of NAME.json
    summary: str  # of it, one line
    pcm: np.ndarray | None  # float32 [T] at the talker's `voice_rate`; None: text alone
    notes: tuple[str, ...] = ()  # further lines to print
    draw: Callable[[BinaryIO], None] | None = None  # writes NAME.png


def talk(options: Namespace) -> None:
    """Run `jomni talk`."""
    if bool(options.inputs) == (options.ask is not None):
        raise ConfigError("give either recordings IN.wav ..., or --ask TEXT ('jomni talk --help' explains them)")
    infos = [audio.inspect(path) for path in options.inputs]
    opened = open_model(options.model)
    talker = (_TurnBased if "omni" in opened.configs else _FullDuplex)(options, opened, infos)
    names = unique_names(options.inputs) or [ASKED]
    endings = ["json", *(["wav"] if talker.voice_rate else []), *(["png"] if options.plot else [])]
    wanted = [f"{name}.{ending}" for name in names for ending in endings]
    with output_files(options.out, wanted, force=options.force, inputs=options.inputs) as files:
        for info in infos:
            say_recording(info, talker.sample_rate)
        answers, notes = talker.answer()
        told: list[str] = []
        for name, answer in zip(names, answers, strict=True):
            told += _write(files, name, answer, talker.voice_rate)
    for line in [*told, *notes]:
        say(line)


def _write(files: Mapping[str, Place], name: str, answer: Answer, voice_rate: int | None) -> list[str]:
    """Write one answer to its temporary files; return the lines to print about it."""
    place = files[f"{name}.json"]
    with writing(place.final):
        write_report(place.part, answer.report)
    told = [f"{place.final}: {answer.summary}"]
    if voice_rate is not None and answer.pcm is not None:
        told += write_audio(files[f"{name}.wav"], answer.pcm, voice_rate)
    if answer.draw is not None and (picture := files.get(f"{name}.png")) is not None:
        with writing(picture.final), picture.part.open("wb") as file:
            answer.draw(file)
    return [*told, *answer.notes]


class _Talker(abc.ABC):
    """A kind of model, set up to answer. Its constructor raises `JomniError` for a request that it cannot fulfil."""

    sample_rate: int  # to which recordings are resampled, Hz
    voice_rate: int | None  # of the answers' audio, Hz; None: they are text alone

    @abc.abstractmethod
    def __init__(self, options: Namespace, opened: CheckpointSource, infos: Sequence[audio.AudioInfo]) -> None: ...

    @abc.abstractmethod
    def answer(self) -> tuple[list[Answer], list[str]]:
        """Load the model and answer everything; return the answers, and lines to print after them."""


class _FullDuplex(_Talker):
    def __init__(self, options: Namespace, opened: CheckpointSource, infos: Sequence[audio.AudioInfo]) -> None:
        from jomni.models.moshi.plan import plan_conversation

        refuse_options(options, TURN_OPTIONS, "that take turns (Mini-Omni)")
        self.options, self.infos = options, infos
        self.sample_rate = mimi_of(opened).sample_rate
        self.plan = plan_conversation(opened)
        self.voice_rate = self.sample_rate if self.plan.speaks else None

    def answer(self) -> tuple[list[Answer], list[str]]:
        import jomni
        from jomni.models.moshi.conversation import Frame, converse, transcribe

        options, plan, batch = self.options, self.plan, len(self.infos)
        tail = MAX_TAIL if options.tail is None else options.tail
        with device(options.device) as chosen:
            checkpoint, dtype = load_model(options, chosen)
            duplex = jomni.Duplex.from_checkpoint(checkpoint, plan.guidance)
            params = duplex.prepare(checkpoint.params)
            codec = duplex.mimi.config
            waveforms = [audio.read(info.path, codec.sample_rate) for info in self.infos]
            fed = [np.pad(wave, (round(plan.lead_in * codec.sample_rate), 0)) for wave in waveforms]
            wanted = {"temperature": options.temperature, "text_temperature": options.text_temperature}
            controls = duplex.controls(batch, **{name: value for name, value in wanted.items() if value is not None})
            conditions, unguided = plan.conditions(batch)
            with working("compiling"):
                coming = converse(
                    duplex, params, fed, seed=options.seed, controls=controls, silence=plan.silence, tail=tail,
                    conditions=conditions, unguided=unguided, end_code=plan.end_code, end_token=plan.end_token,
                )  # fmt: skip
            frames: list[Frame] = []
            with meter("talking", max(map(len, fed)) / codec.sample_rate + tail) as progress:
                for frame in coming:
                    frames.append(frame)
                    progress.done(1 / codec.frame_rate)
        settings = {
            "model": options.model, "model_type": checkpoint.model_type, "dtype": dtype,
            "device": f"{chosen.platform}: {chosen.device_kind}", "batch": batch, "silence_seconds": plan.silence,
            "tail_seconds": tail, "lead_in_seconds": plan.lead_in,
        }  # fmt: skip
        answers = []
        for b, (info, wave) in enumerate(zip(self.infos, waveforms, strict=True)):
            sampling = {
                name: json.loads(str(np.asarray(getattr(controls, name))[b]))
                for name in ("temperature", "text_temperature", "top_k", "text_top_k", "guidance")
            }
            transcript = transcribe(frames, checkpoint, b, plan.lead_in)
            report = conversation_report(info, transcript, settings | {"slot": b, "seed": options.seed + b} | sampling)

            def draw(
                file: BinaryIO, wave: np.ndarray = wave, transcript: Transcript = transcript,
                title: str = f"{info.path.name}, {options.model}, seed {options.seed + b}",
            ) -> None:  # fmt: skip
                from jomni.plot import plot_conversation

                plot_conversation(wave, transcript, title).savefig(file, format="png")

            answers.append(Answer(report, conversation_summary(report), transcript.voice, draw=draw))
        mute = f"{options.model}: brings no text tokenizer, so the text is given as tokens only"
        return answers, [*([mute] if checkpoint.tokenizer is None else []), f"talked {progress}"]


class _TurnBased(_Talker):
    def __init__(self, options: Namespace, opened: CheckpointSource, infos: Sequence[audio.AudioInfo]) -> None:
        from jomni.models.decoder.chat import check_text
        from jomni.models.whisper.mel import SAMPLE_RATE

        refuse_options(options, DUPLEX_OPTIONS, "of full duplex (Moshi)")
        if options.top_k is not None and not options.temperature:
            raise ConfigError(
                "--top-k: the most likely token is always taken without --temperature. Give that too, such as 0.9."
            )
        for text in (options.ask, options.system):
            if text is not None:
                check_text(text)
        if "tokenizer.json" not in opened.files:
            raise ConfigError(f"{opened.source}: has no tokenizer.json. Put that of its text model beside its weights.")
        self.options, self.infos, self.sample_rate = options, infos, SAMPLE_RATE
        if infos:
            _check_length(options.model, opened, infos)
        elif options.answer == "transcript":
            raise PromptError("--answer transcript: --ask has no audio to transcribe. Give a recording.")
        self.codec = _codec_for_answers(options, opened)
        self.voice_rate = None if self.codec is None else self.codec.sampling_rate

    def answer(self) -> tuple[list[Answer], list[str]]:
        import jomni
        from jomni.models.decoder.generate import TextSampling

        options, infos = self.options, self.infos
        batch, kind = 1 if options.conversation else max(1, len(infos)), options.answer or "speech"
        voice = (options.voice or "single") if self.codec else "text_only"
        sampling = TextSampling(options.temperature or 0.0, options.top_k or 0)
        max_tokens = options.max_tokens or MAX_TOKENS
        with device(options.device) as chosen:
            checkpoint, dtype = load_model(options, chosen)
            codec = None if options.codec is None else load_codec(options.codec)
            parts = jomni.OmniParts.from_checkpoint(checkpoint, codec)
            chat = jomni.OmniChat(
                parts, batch, voice=voice, system=options.system, seed=options.seed, sampling=sampling
            )
            questions = [audio.read(info.path, self.sample_rate) for info in infos] or [options.ask]
            spoken: list[Steps] = []
            for first in range(0, len(questions), batch):
                try:
                    with working("prefill" if spoken else "compiling"):
                        chat.ask(questions[first : first + batch], kind, max_steps=max_tokens)
                except PromptError as error:
                    if not spoken:
                        raise
                    before = "What was answered before it stands above, and was not written: give fewer recordings."
                    raise PromptError(f"{infos[first].path}: {error} {before}") from None
                spoken += _stream(chat, batch)
        settings = {
            "model": options.model, "model_type": checkpoint.model_type, "codec": options.codec, "dtype": dtype,
            "device": f"{chosen.platform}: {chosen.device_kind}", "batch": batch, "answer": kind, "voice": voice,
            "system": options.system, "temperature": sampling.temperature, "top_k": sampling.top_k,
            "max_tokens": max_tokens,
        }  # fmt: skip
        answers = []
        for n, (asked, steps) in enumerate(zip(infos or [options.ask], spoken, strict=True)):
            slot, turn = (0, n) if options.conversation else (n, 0)
            mine = settings | {"slot": slot, "turn": turn, "seed": options.seed + slot}
            report = answer_report(asked, self.sample_rate, steps, self.codec, mine)
            pcm = np.concatenate(steps.pcm) if self.codec else None
            shown = (report["text"] or "(no text)",) if batch > 1 else ()  # that of a single one was printed as it came
            answers.append(Answer(report, answer_summary(report), pcm, shown))
        return answers, []


def _check_length(model: str, opened: CheckpointSource, infos: Sequence[audio.AudioInfo]) -> None:
    """Raise `JomniError` where a Mini-Omni cannot take recordings of these lengths."""
    from jomni.models.mini_omni.weights import WHISPER_FOLDERS, WHISPER_NAME
    from jomni.models.whisper.mel import HOP, SAMPLE_RATE

    if "whisper" not in opened.configs:
        raise ConfigError(
            f"{opened.source}: has no speech encoder for recordings. Put the Whisper that it was trained with "
            f"beside its weights ({WHISPER_NAME}, or a folder {WHISPER_FOLDERS[0]}), or write to it with --ask."
        )
    window = opened.configs["whisper"].mel_frames * HOP
    for info in infos:
        if info.samples_at(SAMPLE_RATE) > window:
            raise AudioError(
                f"{info.path}: lasts {info.seconds:.2f} s, but {model} takes at most {window / SAMPLE_RATE:g} s. "
                "Cut the recording."
            )


def _codec_for_answers(options: Namespace, opened: CheckpointSource) -> SnacConfig | None:
    """Return the codec of a Mini-Omni's answers; None where they are text alone. Raises `ConfigError` without one."""
    from jomni.models.mini_omni.weights import SNAC_FOLDERS, SNAC_ON_HUB, check_neighbours

    if options.answer not in (None, "speech"):
        if options.codec is not None or options.voice is not None:
            raise ConfigError(f"--answer {options.answer}: nothing is spoken then. Leave --codec and --voice out.")
        return None
    held = opened if options.codec is None else open_model(options.codec, codec_only=True)
    if "snac" not in held.configs:
        if options.codec is not None:
            raise ConfigError(f"--codec {options.codec}: holds no SNAC. Give one, such as {SNAC_ON_HUB}.")
        raise ConfigError(
            f"{opened.source}: brings no codec to speak with. Give the SNAC that it was trained with (the published "
            f"one: --codec {SNAC_ON_HUB}), put it beside its weights as a folder {SNAC_FOLDERS[0]}, or take "
            "--answer text."
        )
    codec: SnacConfig = held.configs["snac"]
    check_neighbours(opened.configs["omni"], None, codec, held.source)
    return codec


def _stream(chat: OmniChat, batch: int) -> list[Steps]:
    """Run a chat until every slot has answered. The text of a single one is printed as it comes."""
    answers = [Steps() for _ in range(batch)]
    while any(active := chat.active):
        begin = time.perf_counter()
        piece = chat.step()
        spent = 1e3 * (time.perf_counter() - begin)
        for slot in np.flatnonzero(active).tolist():
            answer, text, frame = answers[slot], piece.text[slot], piece.frames[slot]
            if text:
                answer.pieces.append((len(answer.milliseconds), text))
                if batch == 1:
                    tell(text)
            if frame is not None:
                answer.frames.append(frame.tolist())
            answer.pcm.append(piece.pcm[slot])
            answer.milliseconds.append(spent)
    if batch == 1:
        tell("\n")
    for answer, complete in zip(answers, chat.complete, strict=True):
        answer.complete = complete
    return answers
