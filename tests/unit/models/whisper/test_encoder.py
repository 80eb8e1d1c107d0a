"""Whisper's features and encoder: the rules that they keep, and what they refuse."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from jomni.errors import AudioError, ConfigError
from jomni.models.whisper import WHISPER, WhisperConfig, WhisperEncoder, embed_audio, log_mel, windows
from jomni.models.whisper import encoder as encoder_file
from jomni.models.whisper import weights as whisper_weights
from jomni.models.whisper.mel import _log_mel as compiled
from jomni.models.whisper.mel import mel_filters
from jomni.models.whisper.weights import abstract_decoder_params
from tests.paths import GOLDENS
from tests.tiny import random_params

pytestmark = pytest.mark.compiled_quickly

LAYOUTS = json.loads((GOLDENS / "whisper_layouts.json").read_text())
TINY = WhisperConfig(
    n_mels=4, n_audio_ctx=12, n_audio_state=8, n_audio_head=2, n_audio_layer=2, n_vocab=9, n_text_ctx=5, n_text_state=8,
    n_text_head=4, n_text_layer=1,
)  # fmt: skip
SHORT = 3200  # samples; a window that is cheap to compute


def noise(*shape, seed=0, scale=0.3):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def folded(layout, config):
    """Names and shapes of the whole model, the blocks counted."""
    table, found = whisper_weights.weight_map(layout), {}
    for tree in (whisper_weights.abstract_params(config), abstract_decoder_params(config, head=layout == "hf")):
        for tensor in table.expect(tree):
            parts = tensor.name.split(".")
            number = next((i for i, part in enumerate(parts) if part.isdigit() and parts[i - 1] != "mlp"), None)
            if number is None:
                found[tensor.name] = list(tensor.shape)
                continue
            parts[number] = "*"
            name = ".".join(parts)
            found[name] = [found.get(name, [0])[0] + 1, *tensor.shape]
    return found


@pytest.mark.parametrize("layout", ["openai", "hf"])
@pytest.mark.parametrize("size", LAYOUTS)
def test_names_and_shapes_of_the_published_sizes_are_those_of_the_originals(size, layout):
    config = WhisperConfig.from_openai(LAYOUTS[size]["config"])
    assert config == WHISPER[size]
    assert folded(layout, config) == LAYOUTS[size][layout]


def test_every_published_model_has_a_preset():
    assert set(WHISPER) == {
        "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en", "large-v1", "large-v2",
        "large-v3", "large", "large-v3-turbo", "turbo",
    }  # fmt: skip
    assert {c.mel_frames for c in WHISPER.values()} == {3000}
    assert WHISPER["turbo"].n_text_layer == 4 and WHISPER["large"] == WHISPER["large-v3"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_audio_head": 3}, "'n_audio_state' = 8 .*'n_audio_head' = 3"),
        ({"n_audio_layer": 0}, "'n_audio_layer' .* 0"),
        ({"n_mels": "80"}, "'n_mels' .*'80'"),
        ({"n_vocab": True}, "'n_vocab' .*True"),
        ({"n_text_state": 16}, "'n_text_state' = 16 .*'n_audio_state' = 8"),
        ({"n_audio_state": 5, "n_text_state": 5, "n_audio_head": 1, "n_text_head": 1}, "'n_audio_state' = 5"),
    ],
)
def test_dimensions_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        WhisperConfig.from_openai(TINY.to_openai() | change)


def test_missing_and_unknown_dimensions_come_in_one_message():
    raw = TINY.to_openai() | {"n_colours": 3}
    del raw["n_vocab"]
    with pytest.raises(ConfigError, match=r"dims: .*'n_vocab'.*'n_colours'"):
        WhisperConfig.from_openai(raw)
    with pytest.raises(ConfigError, match=r"dims: .*\[1, 2\]"):
        WhisperConfig.from_openai([1, 2])


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_those_of_librosa(n_mels):
    wanted = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels)
    np.testing.assert_allclose(mel_filters(n_mels), wanted, atol=1e-8)


def reference_log_mel(pcm, n_mels, samples):
    """The definition, in float64 and frame by frame."""
    whole = np.pad(np.asarray(pcm, np.float64), (0, samples - len(pcm)))
    centred = np.pad(whole, 200, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = [np.abs(np.fft.rfft(hann * centred[n * 160 : n * 160 + 400])) ** 2 for n in range(samples // 160)]
    log = np.log10(np.maximum(mel_filters(n_mels).astype(np.float64) @ np.array(power).T, 1e-10))
    return (np.maximum(log, log.max() - 8) + 4) / 4


def test_log_mel_follows_its_definition_and_rows_do_not_feel_each_other():
    pcm = noise(3, SHORT - 700)
    pcm[1] *= 1e-4
    ours = np.asarray(log_mel(pcm, 20, samples=SHORT))
    assert ours.shape == (3, 20, SHORT // 160) and ours.dtype == np.float32
    for row, audio in zip(ours, pcm, strict=True):
        np.testing.assert_allclose(row, reference_log_mel(audio, 20, SHORT), atol=1e-4)


def test_log_mel_completes_to_30_seconds_and_works_within_jit():
    pcm = noise(1, SHORT)
    ours = log_mel(pcm)
    assert ours.shape == (1, 80, 3000)
    np.testing.assert_allclose(jax.jit(log_mel)(pcm), ours, atol=1e-6)
    floor = np.asarray(ours)[..., SHORT // 160 + 2 :]  # silence: eight decades under the loudest
    np.testing.assert_allclose(floor, np.asarray(ours).max() - 2, atol=1e-6)


def test_one_program_serves_recordings_of_any_length():
    before = compiled._cache_size()
    for samples in (1, 160, 999, SHORT):
        log_mel(noise(1, samples), 3, samples=SHORT)
    assert compiled._cache_size() == before + 1


@pytest.mark.parametrize(
    ("pcm", "words"),
    [
        (np.zeros((0,), np.float32), r"\[B, T\].* \[0\]"),
        (np.zeros((2, 0), np.float32), r" \[2, 0\]"),
        (np.zeros((2, 1, 50), np.float32), r" \[2, 1, 50\]"),
        (np.zeros((1, 50), np.int16), "int16"),
        (np.zeros((1, 480_001), np.float32), "30.0001 s.* 30 s"),
        (np.float32([[0, 0], [0, np.nan]]), "row 1 .*NaN"),
        (np.float32([[np.inf, 0]]), "row 0 .*NaN"),
    ],
)
def test_audio_that_cannot_be_heard_is_refused(pcm, words):
    with pytest.raises(AudioError, match=words):
        log_mel(pcm)


def test_too_long_audio_is_refused_within_jit_as_well():
    with pytest.raises(AudioError, match=r"30\.0001 s.* 30 s"):
        jax.eval_shape(log_mel, jax.ShapeDtypeStruct((1, 480_001), jnp.float32))


def test_windows_hold_every_sample_once():
    pcm = noise(2 * SHORT + 5)
    cut = np.asarray(windows(pcm, SHORT))
    assert cut.shape == (3, SHORT)
    np.testing.assert_array_equal(cut.ravel()[: len(pcm)], pcm)
    assert not cut.ravel()[len(pcm) :].any()
    assert windows(pcm[: 2 * SHORT], SHORT).shape == (2, SHORT)
    assert jax.eval_shape(windows, jax.ShapeDtypeStruct((480_001,), jnp.float32)).shape == (2, 480_000)
    for bad in (pcm[:0], pcm[None]):
        with pytest.raises(AudioError, match=r"\[T\].* \[(0|1, \d+)\]"):
            windows(bad)


@pytest.fixture(scope="module")
def tiny():
    encoder = WhisperEncoder(TINY)
    return encoder, random_params(encoder, jnp.zeros((1, TINY.n_mels, 2)), seed=1)


def test_rows_of_a_batch_are_encoded_as_if_alone(tiny):
    mel = noise(3, TINY.n_mels, TINY.mel_frames, scale=1)
    together = np.asarray(embed_audio(*tiny, mel))
    assert together.shape == (3, TINY.n_audio_ctx, TINY.n_audio_state) and together.std() > 0.5
    for row, alone in zip(together, mel, strict=True):
        np.testing.assert_allclose(row, embed_audio(*tiny, alone[None])[0], atol=1e-5)


def test_long_windows_attended_a_head_at_a_time_are_encoded_as_if_at_once(monkeypatch):
    long = WhisperEncoder(dataclasses.replace(TINY, n_audio_ctx=encoder_file._LONG))
    mel = noise(2, TINY.n_mels, long.config.mel_frames, scale=1)
    params = random_params(long, mel[:1], seed=1)

    def encoded():
        def loss(params):
            y = long.apply({"params": params}, mel)
            return jnp.sum(y**3), y

        (_, y), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return y, grads, "scan[" in str(jax.make_jaxpr(loss)(params))

    ours, grads, by_head = encoded()
    monkeypatch.setattr(encoder_file, "_LONG", encoder_file._LONG + 1)
    at_once, others, also_by_head = encoded()
    assert by_head and not also_by_head
    np.testing.assert_allclose(ours, at_once, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), grads, others)


@pytest.mark.parametrize("frames", [1, 5, 10])
def test_fewer_frames_are_encoded_at_the_first_positions(tiny, frames):
    encoder, params = tiny
    mel = noise(2, TINY.n_mels, frames, scale=1)
    vectors = -(-frames // 2)
    cut = WhisperEncoder(dataclasses.replace(TINY, n_audio_ctx=vectors))
    positions = params["positional_embedding"]
    ours = embed_audio(encoder, params, mel)
    assert ours.shape == (2, vectors, TINY.n_audio_state)
    np.testing.assert_array_equal(ours, embed_audio(cut, params | {"positional_embedding": positions[:vectors]}, mel))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((TINY.n_mels, 24), r"\[B, M, N\].* \[4, 24\]"),
        ((1, TINY.n_mels, 0), r" \[1, 4, 0\]"),
        ((1, 80, 24), r"80 .* 4.*n_mels=4"),
        ((1, TINY.n_mels, 25), "25 .* 24 "),
    ],
)
def test_features_that_do_not_fit_are_refused(tiny, shape, words):
    with pytest.raises(AudioError, match=words):
        embed_audio(*tiny, np.zeros(shape, np.float32))


def test_an_untrained_encoder_starts_with_sines_then_cosines():
    init = jax.jit(WhisperEncoder(dataclasses.replace(TINY, n_audio_layer=1)).init)
    params = init(jax.random.key(0), jnp.zeros((1, 4, 2)))
    positions = np.asarray(params["params"]["positional_embedding"])
    np.testing.assert_allclose(positions[:, 0], np.sin(np.arange(12)), atol=1e-6)
    np.testing.assert_allclose(positions[:, 4], np.cos(np.arange(12)), atol=1e-6)
    np.testing.assert_allclose(positions[:, 3], np.sin(np.arange(12) / 10_000), atol=1e-6)
