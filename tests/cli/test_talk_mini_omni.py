"""`jomni talk`, `encode` and `decode` with Mini-Omni: what it writes and prints, and what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile

import jomni
from jomni import audio
from jomni.cli.codes_file import read_codes
from jomni.models.decoder.generate import TextSampling
from tests import mini_omni_case
from tests.cli.conftest import speech

pytestmark = pytest.mark.compiled_quickly

RATE = 1600  # of its voice, Hz


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A published folder, with small.pt (1 s) and snac_24khz, a smaller one, beside it."""
    folder = tmp_path_factory.mktemp("omni") / "mini-omni"
    mini_omni_case.write(folder, neighbours=True, speaks=True)
    codec = dataclasses.replace(mini_omni_case.CODEC, sampling_rate=RATE, codebook_size=128)
    voice = {"snac": mini_omni_case.codec_params(codec)}
    shutil.rmtree(folder / "snac_24khz")
    jomni.save(jomni.Checkpoint("snac", {"snac": codec}, voice), folder / "snac_24khz")
    return folder


@pytest.fixture
def lacking(model, tmp_path):
    """The same model without some of its files."""

    def call(*names):
        folder = tmp_path / "lacking"
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns(*names))
        return folder

    return call


@pytest.fixture
def question(tmp_path):
    """0.7 s in two channels at 44.1 kHz."""
    path = tmp_path / "question.flac"
    soundfile.write(path, np.stack([speech(0.7, 44_100)] * 2, 1), 44_100)
    return path


@pytest.fixture
def talk(run, tmp_path, model):
    """Asks something, and gives stdout and the reports by name."""

    def call(*arguments, by=model, out="out"):
        code, said, err = run("talk", *arguments, "--model", by, "--out", tmp_path / out, "--max-tokens", 14)
        assert code == 0, err
        return said, {path.stem: json.loads(path.read_text()) for path in (tmp_path / out).glob("*.json")}

    return call


def test_an_answer_is_that_of_the_api_printed_and_written(talk, question, model, tmp_path):
    said, told = talk(question, "--system", "Be brief.", "--temperature", 0.9, "--top-k", 30, "--seed", 5)
    report = told["question"]
    parts = jomni.OmniParts.from_checkpoint(jomni.load(model))
    sampling = TextSampling(0.9, 30)
    chat = jomni.OmniChat(parts, system="Be brief.", seed=5, sampling=sampling)
    pieces = list(chat.reply([audio.read(question, 16_000)], max_steps=14))
    text = "".join(piece.text[0] for piece in pieces)
    assert report["text"] == text == "".join(piece["text"] for piece in report["pieces"])
    change = "2 channels mixed down to one, resampled from 44100 to 16000 Hz"
    assert said.startswith(f"{question}: 0.70 s, {change}\n{text}\n") and report["input"]["conversion"] == change
    frames = [piece.frames[0].tolist() for piece in pieces if piece.frames[0] is not None]
    assert [frame["codes"] for frame in report["frames"]] == frames and any(frames)
    pcm = np.concatenate([piece.pcm[0] for piece in pieces])
    written = audio.read(tmp_path / "out" / "question.wav", report["sample_rate"])
    np.testing.assert_allclose(written, np.clip(pcm, -1, 1), atol=1e-4)
    assert len(written) / report["sample_rate"] == pytest.approx(len(frames) / report["frame_rate"])
    assert report["steps"] == 14 and not report["complete"] and "broken off there" in said
    settings = report["settings"]
    assert (settings["voice"], settings["seed"], settings["top_k"], settings["answer"]) == ("single", 5, 30, "speech")


def test_recordings_are_conversations_of_their_own_and_what_is_asked_for_is_answered(talk, question, tmp_path):
    other = tmp_path / "other.wav"
    soundfile.write(other, speech(0.4, 16_000, 3), 16_000)
    said, told = talk(question, other, "--answer", "transcript", out="both")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["other.json", "question.json"]
    assert [told[name]["settings"]["seed"] for name in ("question", "other")] == [0, 1]
    assert f"\n{told['other']['text']}\n" in said and told["other"]["settings"]["answer"] == "transcript"
    alone = talk(other, "--answer", "transcript", out="alone")[1]["other"]
    assert alone["pieces"] == told["other"]["pieces"] != talk(other, "--answer", "text")[1]["other"]["pieces"]


def test_recordings_are_the_turns_of_one_conversation_where_that_is_asked_for(talk, model, refuses, tmp_path):
    paths = [tmp_path / f"turn{n}.wav" for n in range(3)]
    for n, path in enumerate(paths):
        soundfile.write(path, speech(0.2, 16_000, n), 16_000)
    said, told = talk(*paths[:2], "--conversation", "--answer", "text")
    chat = jomni.OmniChat(jomni.OmniParts.from_checkpoint(jomni.load(model)), voice="text_only")
    for turn, path in enumerate(paths[:2]):
        text = "".join(p.text[0] for p in chat.reply([audio.read(path, 16_000)], "text", max_steps=14))
        assert told[path.stem]["text"] == text and f"{text}\n" in said
        assert (told[path.stem]["settings"]["turn"], told[path.stem]["settings"]["seed"]) == (turn, 0)
    apart = talk(paths[1], "--answer", "text", out="apart")[1]["turn1"]
    assert apart["text"] != told["turn1"]["text"]  # which answered what had gone before, too
    refuses("talk", *paths, "--conversation", "--answer", "text", "--model", model, "--out", tmp_path / "much",
            "--max-tokens", 14, says=["turn2.wav"])  # fmt: skip


def test_a_question_may_be_written_to_a_model_without_ears(talk, lacking, tmp_path):
    said, told = talk("--ask", "Hello?", "--voice", "batch_parallel", by=lacking("small.pt"))
    assert told["ask"]["input"] == {"text": "Hello?"} and told["ask"]["settings"]["voice"] == "batch_parallel"
    assert said.startswith(told["ask"]["text"]) and (tmp_path / "out" / "ask.wav").is_file()


@pytest.mark.slow
def test_the_codec_may_come_from_elsewhere_and_the_projects_own_form_holds_it(talk, model, lacking, question, tmp_path):
    line = (question, "--system", "Be brief.")  # as long as the one above: what is compiled serves again
    apart = talk(*line, "--codec", model, by=lacking("snac_24khz"), out="apart")[1]["question"]
    jomni.save(jomni.load(model), tmp_path / "export", "orbax")
    own = talk(*line, by=tmp_path / "export", out="own")[1]["question"]
    assert apart["frames"] == own["frames"] and any(frame["codes"] for frame in own["frames"])
    assert len({(tmp_path / out / "question.wav").read_bytes() for out in ("apart", "own")}) == 1


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        (["tokenizer.json"], [], ["lacking", "tokenizer.json"]),
        (["small.pt"], [], ["lacking", "speech encoder", "small.pt", "--ask"]),
        (["snac_24khz"], [], ["lacking", "codec", "--codec", "snac", "--answer text"]),
        (["snac_24khz"], ["--codec", "lacking/small.pt"], ["small.pt", "SNAC"]),
        ([], ["--tail", 0, "--plot", "--text-temperature", 1], ["--text-temperature, --tail, --plot"]),
        ([], ["--top-k", 5], ["--top-k", "--temperature"]),
        ([], ["--answer", "text", "--voice", "single"], ["--answer text", "--voice"]),
        ([], ["--system", " "], ["prompt", "empty"]),
    ],
)
def test_what_is_lacking_or_not_its_option_is_refused(files, options, says, refuses, lacking, question, tmp_path):
    folder = lacking(*files)
    options = [str(option).replace("lacking", str(folder)) for option in options]
    refuses("talk", question, *options, "--model", folder, "--out", tmp_path / "out", says=says)


def test_questions_that_cannot_be_asked_are_refused(refuses, model, question, tmp_path, tiny_moshi_folder):
    by, out = ("--model", model), ("--out", tmp_path / "out")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(8001, np.float32), 8000)
    refuses("talk", question, long, *by, *out, says=[long, "1 s"])
    refuses("talk", *by, *out, says=["recordings", "--ask"])
    refuses("talk", "--ask", " \n", *by, *out, says=["prompt", "empty"])
    refuses("talk", "--ask", "Hello", "--answer", "transcript", *by, *out, says=["transcript"])
    refuses("talk", "--ask", "word " * 600, "--answer", "text", *by, *out, says=["context"])
    refuses("talk", question, "--ask", "Hello", *by, *out, says=["recordings", "--ask"])
    refuses("talk", "--ask", "Hello", "--model", tiny_moshi_folder, *out, says=[tiny_moshi_folder, "--ask"])
    other = ("--model", tiny_moshi_folder)
    refuses("talk", question, "--voice", "single", "--top-k", 3, *other, *out, says=["--top-k, --voice"])


def test_its_codec_encodes_and_decodes(run, refuses, model, lacking, tmp_path):
    wav, npz, back = (tmp_path / name for name in ("x.wav", "x.npz", "back.wav"))
    soundfile.write(wav, speech(0.5, RATE), RATE)
    assert run("encode", wav, npz, "--model", model)[0] == 0
    frames = len(read_codes(npz).codes[0])
    assert [len(level) for level in read_codes(npz).codes] == [frames, 2 * frames, 4 * frames]
    assert run("decode", npz, back, "--model", model)[0] == 0
    assert soundfile.info(back).frames == soundfile.info(wav).frames
    refuses("encode", wav, tmp_path / "y.npz", "--model", lacking("snac_24khz"), says=["codec"])
