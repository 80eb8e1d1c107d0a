"""A speech encoder from nothing: it learns phones, and comes as a Whisper's encoder."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import jomni
from jomni.errors import ConfigError
from jomni.models.whisper import WhisperConfig, WhisperEncoder, embed_audio, log_mel
from jomni.train.config import TrainConfig
from jomni.train.loop import train
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.whisper import SpeechEncoderConfig, SpeechEncoderData

pytestmark = pytest.mark.compiled_quickly

RATE, TONES = 16_000, {"pau": 0.0, "aa": 400.0, "iy": 2200.0}
MODEL = WhisperConfig(
    n_mels=80, n_audio_ctx=30, n_audio_state=16, n_audio_head=2, n_audio_layer=1, n_vocab=1, n_text_ctx=1,
    n_text_state=16, n_text_head=1, n_text_layer=1,
)  # fmt: skip


def speech(folder, count=6):
    """Recordings of tones, each a phone of 60 to 200 ms."""
    rng, lines = np.random.default_rng(0), []
    for number in range(count):
        phones, pieces, now = [], [], 0.0
        while now < 1.0:
            name, length = str(rng.choice(list(TONES))), round(float(rng.uniform(0.06, 0.2)), 3)
            time = np.arange(round(length * RATE)) / RATE
            pieces.append(0.3 * np.sin(2 * np.pi * TONES[name] * time))
            phones.append([name, round(now, 3), round(now + length, 3)])
            now += length
        pcm = np.concatenate(pieces) + 0.001 * rng.standard_normal(sum(map(len, pieces)))
        soundfile.write(folder / f"{number}.wav", pcm, RATE)
        (folder / f"{number}.json").write_text(json.dumps({"phones": phones}))
        lines.append(json.dumps({"path": f"{number}.wav", "duration": len(pcm) / RATE}) + "\n")
    (folder / "all.jsonl").write_text("".join(lines))
    return folder / "all.jsonl"


def config(folder, manifest) -> TrainConfig:
    task = SpeechEncoderConfig(
        model=MODEL, data=SpeechEncoderData(str(manifest), tuple(TONES), seconds=0.4), batch=8,
        optimizer=OptimizerConfig(lr=1e-2, warmup=5),
    )  # fmt: skip
    return TrainConfig(name="speech_encoder", out=str(folder), steps=80, log_every=20, task=task)


@pytest.mark.slow
def test_an_encoder_learns_to_name_phones_and_comes_as_a_whisper(tmp_path):
    run = config(tmp_path, speech(tmp_path))
    train(run)
    lines = [json.loads(line) for line in (tmp_path / "speech_encoder/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["accuracy"] > 0.95 and lines[-1]["loss"] < 0.3 * lines[0]["loss"]
    found = jomni.load(tmp_path / "speech_encoder/export")
    assert found.family == "whisper" and found.configs["whisper"] == MODEL and "head" not in found.params["whisper"]
    mel = log_mel(jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 4000)), jnp.float32), 80, 4800)
    assert embed_audio(WhisperEncoder(MODEL), found.params["whisper"], mel).shape == (1, 15, 16)


def test_the_target_of_each_frame_is_the_phone_that_sounds_in_it(tmp_path):
    run = config(tmp_path, speech(tmp_path))
    batch = next(iter(run.task.build(1).dataset(3)))
    wanted = batch["teacher"].reshape(8, 20, 3)
    frames = batch["pcm"][:, 0].reshape(8, 20, 320)
    loud = np.sqrt(np.square(frames).mean(2)) > 0.1
    sure = wanted.max(2) > 0.99
    assert sure.sum() > 60
    assert ((wanted.argmax(2) > 0) == loud)[sure].all()


def test_segments_that_the_encoder_cannot_hear_are_refused(tmp_path):
    run = config(tmp_path, tmp_path / "none")
    with pytest.raises(ConfigError, match=r"data\.seconds = 0\.8 .*0\.6 s"):
        dataclasses.replace(run.task, data=SpeechEncoderData("x", tuple(TONES), seconds=0.8))
