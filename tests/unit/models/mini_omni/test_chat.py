"""Mini-Omni's sound, and conversations in text and sound."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni.errors import AudioError, ConfigError, PromptError, WeightsError
from jomni.generation.tokenizer import TextTokenizer
from jomni.models.mini_omni.chat import OmniChat, OmniParts
from jomni.models.mini_omni.streams import tree_order
from jomni.models.mini_omni.voice import FrameStream, OmniVoice
from jomni.models.snac import model as snac
from jomni.models.snac.model import Snac
from jomni.models.whisper import WHISPER, WhisperConfig, WhisperEncoder
from tests import decoder_cases, mini_omni_case
from tests.mini_omni_case import CODEC, codec_params
from tests.unit.models.mini_omni.test_model import CONFIG, VOCABULARY, made

pytestmark = pytest.mark.compiled_quickly

V = VOCABULARY
ENCODER = dataclasses.replace(
    WHISPER["tiny"], n_audio_ctx=50, n_audio_state=12, n_audio_head=2, n_audio_layer=1, n_text_state=12, n_text_head=2
)
EMPTY = np.zeros(0, np.float32)
CODEC_PARAMS = codec_params()


def parts():
    encoder = jax.jit(WhisperEncoder(ENCODER).init)(jax.random.key(0), jnp.zeros((1, 80, 100)))["params"]
    tokenizer = TextTokenizer(decoder_cases.files(), "tiny")
    return OmniParts(CONFIG, made(CONFIG), tokenizer, (ENCODER, encoder), (CODEC, CODEC_PARAMS))


PARTS = parts()
SOUND = np.sin(np.arange(8000) / 9).astype(np.float32)


def delayed(frames):
    """Steps of an answer that speaks these frames [F, 7] and then ends."""
    steps = np.full((len(frames) + 8, 8), V.pad_audio, np.int32)
    steps[:, -1] = V.pad_text
    for i in range(7):
        steps[i + 1 : i + 1 + len(frames), i] = frames[:, i]
        steps[i + 1 + len(frames), i] = V.end_of_audio
    return steps


def frames_of(count, seed=0):
    return np.random.default_rng(seed).integers(0, V.audio_size, (count, 7)).astype(np.int32)


def whole(frames):
    """What the codec makes of frames at once."""
    codes = [jnp.asarray(frames[:, places].reshape(1, -1)) for places in tree_order(CODEC.tokens_per_frame)]
    return np.asarray(snac.decode(Snac(CODEC), CODEC_PARAMS, codes))[0, 0]


def test_streams_are_in_the_order_of_the_original():
    assert tree_order((1, 2, 4)) == [[0], [1, 4], [2, 3, 5, 6]]


def test_delays_are_undone_padding_is_silence_and_an_end_ends():
    frames = frames_of(5)
    frames[1, 3], frames[3, 0] = V.pad_audio, V.end_of_audio
    stream = FrameStream(V)
    found = [stream.push(step) for step in delayed(frames)]
    assert all(x is None for x in found[:7]) and found[8].size == 0 and all(x is None for x in found[10:])
    np.testing.assert_array_equal([found[7], found[9]], frames[[0, 2]])
    later = FrameStream(V, delayed(frames)[:9])
    np.testing.assert_array_equal(later.push(delayed(frames)[9]), frames[2])


def test_sound_is_the_codecs_whole_decode_between_silences():
    frames, other = frames_of(25), frames_of(12, 1)  # whole decodes of one length compile once
    frames[12, 2] = V.split
    voice = OmniVoice(CODEC, CODEC_PARAMS, V, 2, seed=None)
    steps, late = delayed(frames), delayed(other)
    sound, joined = [[], []], []
    for i, step in enumerate(steps):
        _, pcm = voice.push([step, late[i - 9] if 0 <= i - 9 < len(late) else None])
        for held, piece in zip(sound, pcm, strict=True):
            held.append(piece)
        joined.append(sum(len(piece) for piece in sound[0]))
    size = CODEC.frame_size
    expected = np.concatenate([whole(frames[:12]), np.zeros(size), whole(frames[13:])])
    np.testing.assert_allclose(np.concatenate(sound[0]), expected, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(sound[1]), whole(other), atol=1e-5)
    first = -(-(CODEC.look_ahead + 1) // size)  # frames after which there is a sample that is certain
    assert first < 12 and joined[6 + first - 1] == 0 < joined[6 + first]
    assert voice.end([True, True])[0].size == 0


def test_a_codec_of_other_frames_is_refused():
    with pytest.raises(ConfigError, match=r"15 .* 7 .* 16"):
        OmniVoice(dataclasses.replace(CODEC, vq_strides=(8, 4, 2, 1)), CODEC_PARAMS, V)


def chat(**options):
    return OmniChat(PARTS, context=240, **options)


def test_an_answer_is_streamed_as_text_and_sound():
    one = chat(noise=False)
    pieces = list(one.reply([["Say:", SOUND]], max_steps=30))
    assert [piece.done[0] for piece in pieces] == [False] * (len(pieces) - 1) + [True] and one.active == [False]
    assert one.complete == [len(pieces) < 30]
    given = one._session.slots[0].given
    text = [int(c[-1]) for c in given if c[-1] < V.text_size]
    assert "".join(piece.text[0] for piece in pieces) == PARTS.tokenizer.decode(text)
    sound, voice = np.concatenate([piece.pcm[0] for piece in pieces]), OmniVoice(CODEC, CODEC_PARAMS, V, seed=None)
    expected = [*(voice.push([column])[1][0] for column in given), voice.end([True])[0]]
    np.testing.assert_array_equal(sound, np.concatenate(expected))
    count = sum(piece.frames[0] is not None for piece in pieces)
    assert len(sound) == count * CODEC.frame_size > 0


def test_turns_of_two_conversations_may_be_of_any_kind():
    two = chat(slots=2, system="Be brief.")
    pieces = list(two.reply(["Hello", SOUND], ["text", "transcript"], max_steps=5))
    assert pieces and not any(piece.pcm[slot].size for piece in pieces for slot in (0, 1))
    held = two._session.slots[0].held
    list(two.reply([None, "And now?"], max_steps=4))
    assert two._session.slots[0].held == held < two._session.slots[1].held
    two.forget(1)
    assert not two._session.slots[1].held and not two._greeted[1] and two._greeted[0]


def test_an_interrupted_answer_goes_on_or_is_forgotten_beyond_what_was_heard():
    one = chat(noise=False)
    undisturbed = list(one.reply(["Hello"], max_steps=24))
    other = chat(noise=False)
    other.ask(["Hello"], max_steps=24)
    pieces = [other.step() for _ in range(14)]
    other.stop(0)
    assert list(other.stream()) == []
    other.resume(0)
    pieces += [other.step() for _ in range(6)]
    other.stop(0, heard=2.5 / CODEC.frame_rate)
    assert len(other._session.slots[0].given) == 3 + 7
    other.resume(0)
    rest = list(other.stream())
    for a, b in zip(pieces, undisturbed[:20], strict=True):
        assert a.text == b.text
        np.testing.assert_array_equal(a.pcm[0], b.pcm[0])
    assert [p.text for p in rest][:-1] == [p.text for p in undisturbed[10:]][:-1] and len(rest) == 14


@pytest.mark.parametrize(
    ("question", "answer", "error", "word"),
    [
        ("", "speech", PromptError, "empty"), ("  \n", "text", PromptError, "empty"),
        ("\udcff", "text", PromptError, "UTF-8"), ("word " * 60, "text", PromptError, r" 303 .* 240 "),
        ("Hello", "transcript", PromptError, "transcript"), ("Hello", "song", PromptError, "'song'"),
        (np.zeros(16_001, np.float32), "text", AudioError, "1.00006 s"), (EMPTY, "text", AudioError, r"\[1, 0\]"),
        (np.full(900, np.nan, np.float32), "text", AudioError, "NaN"), ([], "text", PromptError, "asked"),
        (np.zeros(900, np.int16), "text", AudioError, "int16"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_for_people(question, answer, error, word):
    one = chat()
    with pytest.raises(error, match=word):
        one.ask([question], answer)
    assert one.active == [False] and not one._session.slots[0].held


def test_parts_come_of_a_checkpoint_and_what_it_lacks_is_asked_for_where_it_is_needed(tmp_path):
    mini_omni_case.write(tmp_path / "model", neighbours=True)
    whole = jomni.load(tmp_path / "model")
    found = OmniParts.from_checkpoint(whole)
    assert (found.config, found.speech_encoder[0], found.codec[0]) == tuple(
        whole.configs[name] for name in ("omni", "whisper", "snac")
    )
    assert found.params is whole.params["omni"]
    assert found.tokenizer.decode(found.tokenizer.encode("Hi")) == "Hi"
    params = {"omni": whole.params["omni"]}
    alone = dataclasses.replace(whole, configs={"omni": whole.configs["omni"]}, params=params)
    voice = jomni.load(tmp_path / "model", components=("snac",))
    assert OmniParts.from_checkpoint(alone, voice).codec[0] == whole.configs["snac"]
    mute = OmniChat(OmniParts.from_checkpoint(alone))
    with pytest.raises(PromptError, match=r"codec.*snac_24khz"):
        mute.ask(["Hello"], "speech")
    with pytest.raises(PromptError, match=r"speech encoder.*small\.pt"):
        mute.ask([SOUND], "text")
    with pytest.raises(WeightsError, match=r"model: .*tokenizer\.json"):
        OmniParts.from_checkpoint(dataclasses.replace(whole, files={}))
    with pytest.raises(ConfigError, match=r"model: .*lit_model\.pth"):
        OmniParts.from_checkpoint(voice)
    with pytest.raises(ConfigError, match=r"model: .*SNAC"):
        OmniParts.from_checkpoint(whole, alone)
    other = dataclasses.replace(voice, configs={"snac": CODEC}, params={"snac": CODEC_PARAMS})
    with pytest.raises(ConfigError, match=r"model: .* 7 .* 16 .* 7 .* 128"):
        OmniParts.from_checkpoint(whole, other)


@pytest.mark.parametrize(
    ("name", "config", "word"),
    [("snac", CODEC, "7 tokens per frame of 16"), ("whisper", WhisperConfig.tiny(), "its Whisper has width 16")],
)
def test_a_model_refuses_a_codec_or_speech_encoder_that_does_not_fit_it(tmp_path, name, config, word):
    mini_omni_case.write(tmp_path / "model", neighbours=True)
    whole = jomni.load(tmp_path / "model")
    assert jomni.OmniModel.from_checkpoint(whole).codec is not None
    with pytest.raises(ConfigError, match=f"model: .*{word}"):
        jomni.OmniModel.from_checkpoint(dataclasses.replace(whole, configs=whole.configs | {name: config}))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r" 12 .* 13\b"):
        OmniChat(dataclasses.replace(PARTS, config=dataclasses.replace(CONFIG, feature_dim=13)))
    deaf = OmniChat(dataclasses.replace(PARTS, speech_encoder=None), voice="text_only", context=100)
    with pytest.raises(PromptError, match=r"speech encoder.*small\.pt"):
        deaf.ask([SOUND], "text")
    with pytest.raises(PromptError, match="text_only"):
        deaf.ask(["Hello"], "speech")
