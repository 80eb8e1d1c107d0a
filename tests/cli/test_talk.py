"""`jomni talk`: what it writes, when it ends, and what it tells."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

import jomni
from jomni import audio
from jomni.checkpoints.checkpoint import CheckpointSource
from jomni.errors import ConfigError
from jomni.models.moshi import weights as moshi_weights
from jomni.models.moshi.config import ConditionerConfig, FuserConfig
from jomni.models.moshi.plan import plan_conversation
from tests.cli.conftest import speech
from tools.random_model import random_params

pytestmark = pytest.mark.compiled_quickly

FRAME = 1920


@pytest.fixture
def talk(run, tmp_path, tiny_moshi_folder):
    """Runs a conversation into DIR = tmp_path / "out"; gives its stdout."""

    def call(*arguments, model=tiny_moshi_folder, out="out"):
        code, said, err = run("talk", *arguments, "--model", model, "--out", tmp_path / out)
        assert code == 0, err
        return said

    return call


@pytest.fixture(scope="module")
def quiet(tiny_moshi, tmp_path_factory):
    """A model that only ever says padding, and whose decoder gives silence."""
    import jax

    params = dict(tiny_moshi.params)
    lm = dict(params["lm"])
    weight = np.zeros_like(lm["text_linear"]["weight"])
    lm["text_linear"] = {"weight": weight, "bias": np.eye(weight.shape[0], dtype=np.float32)[3] * 100}
    params["lm"] = lm | {
        f"linears_{k}": {"weight": lm[f"linears_{k}"]["weight"], "bias": np.zeros(32, np.float32)} for k in range(4)
    }
    params["mimi"] = params["mimi"] | {"decoder": jax.tree.map(np.zeros_like, params["mimi"]["decoder"])}
    config = dataclasses.replace(tiny_moshi.configs["lm"], bias_proj=True)
    folder = tmp_path_factory.mktemp("quiet") / "quiet"
    jomni.save(dataclasses.replace(tiny_moshi, configs=tiny_moshi.configs | {"lm": config}, params=params), folder)
    return folder


def report(tmp_path, name="question", out="out"):
    return json.loads((tmp_path / out / f"{name}.json").read_text())


def test_a_conversation_is_the_duplex_step_frame_by_frame(talk, recording, tmp_path, tiny_moshi):
    talk(recording, "--seed", 7, "--tail", 0.4)
    duplex = jomni.Duplex.from_checkpoint(tiny_moshi)
    params = duplex.prepare(tiny_moshi.params)
    pcm = audio.read(recording, 24000)
    frames = -(-len(pcm) // FRAME)
    fed = np.pad(pcm, (0, (frames + 5) * FRAME - len(pcm))).reshape(-1, FRAME)
    state, controls = duplex.init_state(1, seed=7), duplex.controls(1)
    told = report(tmp_path)["frames"]
    assert len(told) == frames + 5
    voice = [np.zeros(FRAME)]
    for f, frame in enumerate(fed):
        state, out = duplex.step(params, state, frame[None, None], controls)
        assert told[f]["text"] == out.text[0] and told[f]["agent"] == out.codes[0].tolist()
        assert told[f]["user"] == out.user_codes[0].tolist()
        assert told[f]["time"] == pytest.approx((f + 1) * 0.08)
        voice.append(np.asarray(out.pcm[0, 0]))
    # What answers user frame f is heard from (f + 1) * 1920 samples on.
    heard = audio.read(tmp_path / "out" / "question.wav", 24000)
    assert soundfile.info(tmp_path / "out" / "question.wav").samplerate == 24000
    np.testing.assert_allclose(heard, np.clip(np.concatenate(voice), -1, 32767 / 32768), atol=1e-4)


def test_the_report_is_complete_and_its_text_is_its_pieces(talk, recording, tmp_path):
    said = talk(recording, "--tail", 0, "--temperature", 0, "--text-temperature", 0.5)
    told = report(tmp_path)
    assert told["text"] == "".join(piece["text"] for piece in told["pieces"]).strip() and told["text"] in said
    assert len(told["pieces"]) > 5
    for piece in told["pieces"]:
        assert told["frames"][piece["frame"]]["text"] == piece["token"] not in (0, 3)
        assert piece["time"] == told["frames"][piece["frame"]]["time"]
    assert told["input"]["path"] == str(recording) and told["input"]["seconds"] == 2.3
    settings = told["settings"]
    assert (settings["temperature"], settings["text_temperature"], settings["top_k"]) == (0, 0.5, 250)
    assert (settings["seed"], settings["dtype"], settings["batch"]) == (0, "float32", 1)
    assert {"jomni", "jax", "jaxlib", "numpy", "python"} <= set(told["versions"])
    spent = [frame["milliseconds"] for frame in told["frames"]]
    assert told["milliseconds_per_frame"]["median"] == pytest.approx(np.median(spent), abs=1e-2)
    assert told["milliseconds_per_frame"]["live_limit"] == 80
    assert told["real_time_factor"] == pytest.approx(sum(spent) / 80 / len(spent), abs=1e-3)
    assert max(spent) < 2000  # compiling is not counted


def test_the_same_seed_gives_the_same_conversation_and_another_seed_another(talk, recording, tmp_path):
    for seed, out in ((1, "a"), (1, "b"), (2, "c")):
        talk(recording, "--seed", seed, "--tail", 0, out=out)
    a, b, c = ([f["agent"] for f in report(tmp_path, out=out)["frames"]] for out in "abc")
    assert a == b != c


def test_recordings_run_as_a_batch_without_affecting_each_other(talk, tmp_path):
    for name, seconds, seed in (("long", 3.1, 0), ("short", 0.9, 1), ("other", 2.0, 2)):
        audio.write(tmp_path / f"{name}.wav", speech(seconds, 24000, seed), 24000)
    first, second, third = (tmp_path / f"{name}.wav" for name in ("long", "short", "other"))
    talk(first, second, "--tail", 0.8, "--plot")
    talk(third, second, "--tail", 0.8, out="again")
    told = report(tmp_path, "short")
    assert told["settings"]["slot"] == 1 and told["settings"]["seed"] == 1 and told["settings"]["batch"] == 2
    assert len(told["frames"]) == 12 + 10
    assert len(report(tmp_path, "long")["frames"]) == 39 + 10
    same = report(tmp_path, "short", "again")
    for key in ("text", "agent", "user", "valid"):
        assert [f[key] for f in told["frames"]] == [f[key] for f in same["frames"]]
    assert (tmp_path / "out" / "short.wav").read_bytes() == (tmp_path / "again" / "short.wav").read_bytes()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "long.json", "long.png", "long.wav", "short.json", "short.png", "short.wav",
    ]  # fmt: skip


def test_recordings_of_the_same_name_do_not_overwrite_each_other(talk, recording, tmp_path):
    (tmp_path / "a").mkdir()
    other = tmp_path / "a" / "question.flac"
    audio.write(other, speech(1, 24000, 3), 24000)
    talk(recording, other, "--tail", 0)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.json"))
    assert names == ["question-2.json", "question.json"]
    assert report(tmp_path, "question-2")["input"]["path"] == str(other)


def test_silence_is_fed_until_the_agent_has_been_silent_for_two_seconds(talk, recording, tmp_path, quiet):
    talk(recording, model=quiet)
    told = report(tmp_path)
    assert len(told["frames"]) == 29 + 25
    assert told["text"] == "" and told["pieces"] == []
    assert not audio.read(tmp_path / "out" / "question.wav", 24000).any()


def test_an_agent_that_never_falls_silent_is_stopped_after_the_tail(talk, recording, tmp_path):
    talk(recording)
    assert len(report(tmp_path)["frames"]) == 29 + 250


def test_the_picture_shows_both_waveforms_and_the_text(talk, recording, tmp_path):
    import matplotlib.image

    talk(recording, "--plot", "--tail", 0)
    image = matplotlib.image.imread(tmp_path / "out" / "question.png")
    assert image.shape[1] >= 900 and image.shape[0] >= 300
    blue = (image[..., 2] > image[..., 0] + 0.2).any(axis=1)
    red = (image[..., 0] > image[..., 2] + 0.2).any(axis=1)
    assert blue.sum() > 50 and red.sum() > 50 and np.argmax(blue) < np.argmax(red)


def test_without_plot_no_picture_is_drawn_and_outputs_need_force(talk, run, recording, tmp_path, tiny_moshi_folder):
    talk(recording, "--tail", 0)
    held = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert held == ["question.json", "question.wav"]
    line = ["talk", recording, "--tail", 0, "--model", tiny_moshi_folder, "--out", tmp_path / "out"]
    code, _, err = run(*line)
    assert code == 2 and "question.json: " in err and "--force" in err
    assert run(*line, "--force")[0] == 0


def test_a_model_without_a_voice_gives_text_only(talk, recording, tmp_path, listener):
    talk(recording, "--plot", model=listener)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["question.json", "question.png"]
    told = report(tmp_path)
    # A second of silence goes before: times count from the recording's begin.
    assert told["frames"][0]["time"] == pytest.approx(0.08 - 1) and told["frames"][0]["agent"] == []
    assert told["settings"]["silence_seconds"] == 3.5 and told["settings"]["lead_in_seconds"] == 1
    for piece in told["pieces"]:
        assert piece["time"] == pytest.approx(told["frames"][piece["frame"]]["time"])
    assert len(told["pieces"]) > 5


def test_a_model_without_a_tokenizer_gives_tokens_only(talk, recording, tmp_path, tiny_moshi):
    jomni.save(dataclasses.replace(tiny_moshi, tokenizer=None), tmp_path / "mute")
    said = talk(recording, "--tail", 0, model=tmp_path / "mute")
    assert "no text tokenizer" in said
    told = report(tmp_path)
    assert told["text"] == "" and len({frame["text"] for frame in told["frames"]}) > 3


@pytest.mark.slow
def test_the_language_model_computes_in_the_dtype_that_is_asked_for(talk, recording, tmp_path):
    talk(recording, "--tail", 0, "--dtype", "bfloat16")
    assert report(tmp_path)["settings"]["dtype"] == "bfloat16"
    assert np.abs(audio.read(tmp_path / "out" / "question.wav", 24000)).max() > 0.01


def test_a_recording_is_resampled_and_mixed_down_and_that_is_said(talk, tmp_path):
    path = tmp_path / "x.ogg"
    soundfile.write(path, np.stack([speech(1, 48000)] * 2, 1), 48000)
    said = talk(path, "--tail", 0)
    change = "2 channels mixed down to one, resampled from 48000 to 24000 Hz"
    assert f"{path}: 1.00 s, {change}" in said and report(tmp_path, "x")["input"]["conversion"] == change


CONDITIONED = {
    "conditioners": (
        ConditionerConfig("description", "lut", dim=8, n_bins=2, possible_values=("very_good", "very_bad")),
    ),
    "fuser": FuserConfig(sum=("description",)),
}


def test_hibiki_is_conditioned_guided_told_the_end_and_stops_at_its_end_token(talk, recording, tmp_path, tiny_moshi):
    lm = dataclasses.replace(tiny_moshi.configs["lm"], bias_proj=True, text_eos_reads_as_padding=True, **CONDITIONED)
    params = random_params(moshi_weights.abstract_params(lm), 6)
    params["text_linear"]["bias"] = np.where(np.arange(lm.text_card) == 2, 1000, 0).astype(np.float32)
    checkpoint = dataclasses.replace(
        tiny_moshi, configs=tiny_moshi.configs | {"lm": lm}, params=tiny_moshi.params | {"lm": params},
        model_type="hibiki", generation={"cfg_coef": 2.0},
    )  # fmt: skip
    jomni.save(checkpoint, tmp_path / "hibiki")
    talk(recording, model=tmp_path / "hibiki")
    told = report(tmp_path)
    assert told["settings"]["guidance"] == 2
    # It says its end token all the time, but that ends the conversation only once the recording is over.
    assert [frame["text"] for frame in told["frames"]] == [2] * (29 + 1)
    assert [frame["user"] == [lm.card] * 4 for frame in told["frames"]] == [False] * 29 + [True]


def plan(tiny_moshi, **changes):
    lm = {"lm": changes.pop("lm", tiny_moshi.configs["lm"]), "mimi": tiny_moshi.configs["mimi"]}
    configs = {name: config for name, config in lm.items() if config is not None}
    return plan_conversation(CheckpointSource("moshi", configs, source="m", **changes))


def test_a_kind_of_model_asks_for_what_its_own_runner_does(tiny_moshi):
    conditioned = dataclasses.replace(tiny_moshi.configs["lm"], **CONDITIONED)
    hibiki = plan(tiny_moshi, model_type="hibiki", lm=conditioned)
    assert (hibiki.condition, hibiki.unguided, hibiki.guidance) == ("very_good", None, None)
    assert (hibiki.end_code, hibiki.end_token) == (tiny_moshi.configs["lm"].card, 2)
    stt = plan(tiny_moshi, model_type="stt", settings={"stt_config": {"audio_delay_seconds": 0.5}})
    assert (stt.silence, stt.lead_in, stt.end_token) == (2.0, 0.0, None)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"model_type": "tts"}, "text-to-speech"), ({"settings": {"tts_config": {"multistream": True}}}, "text-to-speech"),
     ({"lm": None}, "codec alone")],
)  # fmt: skip
def test_models_that_do_not_converse_are_refused(changes, word, tiny_moshi):
    with pytest.raises(ConfigError, match=word):
        plan(tiny_moshi, **changes)


def test_conditions_that_are_not_known_are_refused(tiny_moshi):
    with pytest.raises(ConfigError, match="description"):
        plan(tiny_moshi, lm=dataclasses.replace(tiny_moshi.configs["lm"], **CONDITIONED))
