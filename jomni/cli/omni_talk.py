"""`jomni talk` with Mini-Omni, which takes turns: a question heard or read whole, its answer as it comes."""

from __future__ import annotations

import dataclasses
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni import audio
from jomni.cli.console import say, say_recording, tell, working
from jomni.cli.files import Place, output_files, unique_names, write_audio, writing
from jomni.cli.model import device, load_codec, load_model, open_model, refuse_options
from jomni.errors import AudioError, ConfigError, PromptError
from jomni.models.whisper.mel import HOP, SAMPLE_RATE

if TYPE_CHECKING:
    from jomni.checkpoints.checkpoint import CheckpointSource
    from jomni.models.mini_omni.chat import OmniChat
    from jomni.models.snac.config import SnacConfig

OPTIONS = ("ask", "conversation", "answer", "system", "codec", "top_k", "max_tokens", "parallel")
"""Options of `jomni talk` that only models have which take turns."""
LIVE_OPTIONS = ("text_temperature", "tail", "plot")
"""Those that only models of full duplex have."""

MAX_TOKENS = 1024
ASKED = "ask"
"""Name of the results of a question in writing."""


@dataclasses.dataclass
class Answer:
    """What was said, as it came."""

    pieces: list[tuple[int, str]] = dataclasses.field(default_factory=list)  # step and text
    frames: list[list[int]] = dataclasses.field(default_factory=list)  # codes of the audio streams; empty: silence
    pcm: list[np.ndarray] = dataclasses.field(default_factory=list)  # float32 at the codec's rate
    milliseconds: list[float] = dataclasses.field(default_factory=list)  # of each step
    complete: bool = False  # it came to its own end

    @property
    def steps(self) -> int:
        """How many it took."""
        return len(self.milliseconds)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.pieces)


def talk(options: Namespace, opened: CheckpointSource, infos: Sequence[audio.AudioInfo]) -> None:
    """Run `jomni talk` with a Mini-Omni, of which the configuration is read so far."""
    codec = checked(options, opened, infos)
    names = unique_names(options.inputs) or [ASKED]
    wanted = [f"{name}.{ending}" for name in names for ending in (["json", "wav"] if codec else ["json"])]
    with output_files(options.out, wanted, force=options.force, inputs=options.inputs) as files:
        for info in infos:
            say_recording(info, SAMPLE_RATE)
        answers, settings = _talk(options, infos, speaks=codec is not None)
        told: list[str] = []
        for n, (name, asked, answer) in enumerate(zip(names, infos or [options.ask], answers, strict=True)):
            slot, turn = (0, n) if options.conversation else (n, 0)
            mine = settings | {"slot": slot, "turn": turn, "seed": options.seed + slot}
            told += _write(files, name, asked, answer, codec, mine)
            if settings["batch"] > 1:
                told.append(answer.text or "(no text)")
    for line in told:
        say(line)


def checked(options: Namespace, opened: CheckpointSource, infos: Sequence[audio.AudioInfo]) -> SnacConfig | None:
    """Return the codec that the model is to speak with; None where it is to write.

    Raises:
      JomniError: the model lacks what is asked of it, or the question cannot be asked. No weights have been read then.
    """
    from jomni.models.decoder.chat import check_text
    from jomni.models.mini_omni.weights import (
        SNAC_FOLDERS,
        SNAC_ON_HUB,
        WHISPER_FOLDERS,
        WHISPER_NAME,
        check_neighbours,
    )

    refuse_options(options, LIVE_OPTIONS, "of full duplex (Moshi)")
    if options.top_k is not None and not options.temperature:
        raise ConfigError("--top-k: the likeliest token is always taken. Give --temperature too, such as 0.9.")
    for text in (options.ask, options.system):
        if text is not None:
            check_text(text)
    if "tokenizer.json" not in opened.files:
        raise ConfigError(f"{opened.source}: has no tokenizer.json. Put that of its text model beside its weights.")
    if infos:
        if "whisper" not in opened.configs:
            raise ConfigError(
                f"{opened.source}: has no speech encoder for recordings. Put the Whisper that it was trained with "
                f"beside its weights ({WHISPER_NAME}, or a folder {WHISPER_FOLDERS[0]}), or write to it with --ask."
            )
        window = opened.configs["whisper"].mel_frames * HOP
        for info in infos:
            if info.samples_at(SAMPLE_RATE) > window:
                raise AudioError(
                    f"{info.path}: lasts {info.seconds:.2f} s, of which {options.model} hears "
                    f"{window / SAMPLE_RATE:g} s. Cut the recording."
                )
    elif options.answer == "transcript":
        raise PromptError("--answer transcript: with --ask nothing is heard. Give a recording.")
    if options.answer not in (None, "speech"):
        if options.codec is not None or options.parallel:
            raise ConfigError(f"--answer {options.answer}: nothing is spoken then. Leave --codec and --parallel out.")
        return None
    voice = opened if options.codec is None else open_model(options.codec, codec_only=True)
    if "snac" not in voice.configs:
        if options.codec is not None:
            raise ConfigError(f"--codec {options.codec}: holds no SNAC. Give one, such as {SNAC_ON_HUB}.")
        raise ConfigError(
            f"{opened.source}: brings no codec to speak with. Give the SNAC that it was trained with (the published "
            f"one: --codec {SNAC_ON_HUB}), put it beside its weights as a folder {SNAC_FOLDERS[0]}, or take "
            "--answer text."
        )
    assert "omni" in opened.configs
    check_neighbours(opened.configs["omni"], None, voice.configs["snac"], voice.source)
    return voice.configs["snac"]


def _talk(options: Namespace, infos: Sequence[audio.AudioInfo], *, speaks: bool) -> tuple[list[Answer], dict[str, Any]]:
    """Ask all questions, at once or one after another; return the answers, and what their files say of how they came
    about."""
    import jomni
    from jomni.models.decoder.generate import TextSampling

    slots, kind = 1 if options.conversation else max(1, len(infos)), options.answer or "speech"
    voice = ("batch_parallel" if options.parallel else "single") if speaks else "text_only"
    sampling = TextSampling(options.temperature or 0.0, options.top_k or 0)
    max_tokens = options.max_tokens or MAX_TOKENS
    with device(options.device) as chosen:
        checkpoint, dtype = load_model(options, chosen)
        codec = None if options.codec is None else load_codec(options.codec)
        parts = jomni.OmniParts.from_checkpoint(checkpoint, codec)
        chat = jomni.OmniChat(parts, slots, voice=voice, system=options.system, seed=options.seed, sampling=sampling)
        questions = [audio.read(info.path, SAMPLE_RATE) for info in infos] or [options.ask]
        answers: list[Answer] = []
        for first in range(0, len(questions), slots):
            try:
                with working("listening" if answers else "compiling"):
                    chat.ask(questions[first : first + slots], kind, max_steps=max_tokens)
            except PromptError as error:
                if not answers:
                    raise
                before = "What was answered before it stands above, and was not written: give fewer recordings."
                raise PromptError(f"{infos[first].path}: {error} {before}") from None
            answers += _answers(chat, slots)
    settings = {
        "model": options.model, "model_type": checkpoint.model_type, "codec": options.codec, "dtype": dtype,
        "device": f"{chosen.platform}: {chosen.device_kind}", "batch": slots, "answer": kind, "voice": voice,
        "system": options.system, "temperature": sampling.temperature, "top_k": sampling.top_k,
        "max_tokens": max_tokens,
    }  # fmt: skip
    return answers, settings


def _answers(chat: OmniChat, slots: int) -> list[Answer]:
    """Return what is said in each slot. The text of a single one is printed as it comes."""
    answers = [Answer() for _ in range(slots)]
    while any(active := chat.active):
        begin = time.perf_counter()
        piece = chat.step()
        spent = 1e3 * (time.perf_counter() - begin)
        for slot in np.flatnonzero(active).tolist():
            answer, text, frame = answers[slot], piece.text[slot], piece.frames[slot]
            if text:
                answer.pieces.append((answer.steps, text))
                if slots == 1:
                    tell(text)
            if frame is not None:
                answer.frames.append(frame.tolist())
            answer.pcm.append(piece.pcm[slot])
            answer.milliseconds.append(spent)
    if slots == 1:
        tell("\n")
    for answer, complete in zip(answers, chat.complete, strict=True):
        answer.complete = complete
    return answers


def _write(
    files: Mapping[str, Place], name: str, asked: audio.AudioInfo | str, answer: Answer, codec: SnacConfig | None,
    settings: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """Write one answer to its temporary files; return the notes about it."""
    from jomni.cli.report import answer_report, answer_summary, write_report

    place = files[f"{name}.json"]
    report = answer_report(answer, asked, SAMPLE_RATE, codec, settings)
    with writing(place.final):
        write_report(place.part, report)
    told = [f"{place.final}: {answer_summary(report)}"]
    if codec is not None:
        told += write_audio(files[f"{name}.wav"], np.concatenate(answer.pcm), codec.sampling_rate)
    return told
