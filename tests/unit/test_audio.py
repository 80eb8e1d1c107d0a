"""Reading, checking, mixing down, resampling and writing audio."""

import resource
import struct
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from jomni import audio
from jomni.errors import AudioError, OutputError


def noise(samples, channels=1, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((samples, channels))).astype(np.float32)


def tone(seconds, rate, hertz=440.0):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def stored(folder, samples, rate, **kind) -> Path:
    path = folder / f"x.{kind.get('format', 'wav').lower()}"
    soundfile.write(path, samples, rate, **kind)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [1, 5, 4801, 100_017])
def test_reading_equals_librosa_resampling_of_the_whole(tmp_path, rate, samples):
    x = noise(samples)
    path = stored(tmp_path, x, rate, subtype="FLOAT")
    whole = librosa.resample(x[:, 0], orig_sr=rate, target_sr=24000, res_type="soxr_hq")
    got = audio.read(path, 24000)
    assert got.dtype == np.float32 and got.shape == whole.shape == (audio.inspect(path).samples_at(24000),)
    np.testing.assert_allclose(got, whole, atol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 1920, 48_000])
def test_blocks_joined_equal_the_whole(tmp_path, block):
    path = stored(tmp_path, noise(4321), 44100, subtype="FLOAT")
    pieces = list(audio.blocks(audio.inspect(path), 24000, block))
    assert all(len(piece) == block for piece in pieces[:-1]) and 0 < len(pieces[-1]) <= block
    np.testing.assert_array_equal(np.concatenate(pieces), audio.read(path, 24000))


@pytest.mark.parametrize(
    ("kind", "subtype", "exact"),
    [("WAV", "PCM_16", True), ("WAV", "PCM_U8", False), ("WAV", "PCM_24", True), ("WAV", "FLOAT", True),
     ("WAV", "DOUBLE", True), ("FLAC", "PCM_16", True), ("AIFF", "PCM_16", True), ("AU", "PCM_16", True),
     ("CAF", "PCM_16", True), ("OGG", "VORBIS", False), ("OGG", "OPUS", False), ("MP3", "MPEG_LAYER_III", False),
     ("W64", "PCM_16", True), ("RF64", "PCM_16", True), ("WAV", "ULAW", False)],
)  # fmt: skip
def test_formats_of_libsndfile_are_read(tmp_path, kind, subtype, exact):
    x = tone(0.5, 48000)
    path = stored(tmp_path, x, 48000, format=kind, subtype=subtype)
    got = audio.read(path, 48000)
    assert abs(len(got) - len(x)) < 2400  # lossy formats may pad
    if exact:
        np.testing.assert_allclose(got, x, atol=2**-14)
    else:
        assert np.corrcoef(got[4800:19200], x[4800:19200])[0, 1] > 0.98


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged_and_that_is_said(tmp_path, channels):
    x = noise(1000, channels)
    path = stored(tmp_path, x, 24000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(path, 24000), x.mean(1), atol=1e-7)
    assert audio.inspect(path).conversion(24000) == f"{channels} channels mixed down to one"


def test_what_is_done_to_a_recording_is_said_and_nothing_where_nothing_is_done(tmp_path):
    info = audio.inspect(stored(tmp_path, tone(0.1, 16000), 16000))
    assert info.conversion(24000) == "resampled from 16000 to 24000 Hz"
    plain = audio.inspect(stored(tmp_path, tone(0.1, 24000), 24000))
    assert plain.conversion(24000) == ""


def test_samples_beyond_full_scale_are_kept_and_that_is_said(tmp_path):
    path = stored(tmp_path, 10 * tone(0.1, 24000), 24000, subtype="FLOAT")
    assert np.abs(audio.read(path, 24000)).max() > 2.9
    assert audio.inspect(path).conversion(24000) == "louder than full scale (peak 3), not clipped"


def fails(path, *words):
    with pytest.raises(AudioError) as caught:
        audio.inspect(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    fails(tmp_path / "none.wav")


def test_a_folder_is_refused(tmp_path):
    fails(tmp_path, "folder")


def test_a_device_is_refused():
    fails(Path("/dev/zero"), "device")


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "x.wav"
    path.touch()
    fails(path, "empty")


@pytest.mark.parametrize("content", [b"I am a text\n" * 50, bytes(4096), b"RIFF", b"\x89PNG\r\n" + bytes(99)])
def test_a_file_that_is_no_audio_is_refused(tmp_path, content):
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    fails(path)


def test_audio_of_length_zero_is_refused(tmp_path):
    fails(stored(tmp_path, noise(0), 24000), "samples")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 30_000])
def test_samples_that_are_no_numbers_are_refused_with_their_place(tmp_path, bad, at):
    x = noise(30_001, 2)
    x[at, 1] = bad
    fails(stored(tmp_path, x, 24000, subtype="FLOAT"), f"sample {at} ", f"{at / 24000:.3f} s", str(bad))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
     ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("VOC", "PCM_16"),
     ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "IMA_ADPCM")],
)  # fmt: skip
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.66, 0.95, 0.999])
def test_a_file_that_was_cut_short_is_refused(tmp_path, kind, subtype, kept):
    path = stored(tmp_path, noise(48_000 * 2), 48000, format=kind, subtype=subtype)
    audio.inspect(path)
    content = path.read_bytes()
    path.write_bytes(content[: max(8, int(kept * len(content)))])
    fails(path, "short")


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF024])
def test_a_wav_of_unknown_length_as_programs_write_it_to_a_pipe_is_read(tmp_path, length):
    path = stored(tmp_path, noise(1000), 24000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", length)
    path.write_bytes(content)
    assert audio.inspect(path).num_samples == 1000


def test_a_file_that_changes_after_it_was_inspected_is_refused(tmp_path):
    path = stored(tmp_path, noise(5000), 24000)
    info = audio.inspect(path)
    stored(tmp_path, noise(4000), 24000)
    with pytest.raises(AudioError, match=f"^{path}: "):
        list(audio.blocks(info, 24000, 1920))


@pytest.mark.parametrize("ending", [".wav", ".flac", ".WAV"])
def test_what_is_written_is_read_back_to_half_a_step_of_16_bits(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    x = noise(5000)[:, 0]
    assert audio.write(path, x, 24000) == 0
    assert soundfile.info(path).subtype == "PCM_16" and soundfile.info(path).samplerate == 24000
    np.testing.assert_allclose(audio.read(path, 24000), x, atol=2**-16 + 1e-9)


def test_samples_beyond_full_scale_are_limited_and_counted(tmp_path):
    assert audio.write(tmp_path / "x.wav", np.array([0.5, 1.5, -1.0, -2.0, 0.99999]), 24000) == 3
    np.testing.assert_allclose(
        audio.read(tmp_path / "x.wav", 24000), [0.5, 32767 / 32768, -1, -1, 32767 / 32768], atol=1e-7
    )


def test_audio_that_is_no_number_is_not_written(tmp_path):
    with pytest.raises(AudioError, match="NaN"):
        audio.write(tmp_path / "x.wav", np.array([0.0, np.nan]), 24000)


@pytest.mark.parametrize("name", ["x.mp3", "x", "x.npz"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(OutputError, match=rf"{name}: .*\.wav .*\.flac"):
        audio.write(tmp_path / name, np.zeros(5), 24000)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"^{tmp_path}/file/x.wav: "):
        audio.write(tmp_path / "file" / "x.wav", np.zeros(5), 24000)


def test_a_full_disk_is_said(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"x\.wav: .*System error"):
            audio.write(tmp_path / "x.wav", np.zeros(200_000), 24000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
