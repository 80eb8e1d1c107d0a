"""Segments of recordings for codec training, and their teachers."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from jomni.data import audio_dataset
from jomni.data.manifest import Item, read_manifest
from jomni.data.recordings import segments
from jomni.data.recordings.teachers import FeatureTeacher, PhoneTeacher, overlaps
from jomni.errors import ConfigError, DataError

RATE = 16000
OPTIONS = {"sample_rate": RATE, "segment_seconds": 0.16, "batch": 3, "seed": 5}


def corpus(folder: Path, seconds=(0.5, 0.1, 1.0, 0.7), channels=1) -> Path:
    """Recordings whose n-th sample is n / 2^15, negative in the right channel; phones change every 50 ms."""
    (folder / "data").mkdir(parents=True)
    with (folder / "all.jsonl").open("w") as manifest:
        for index, length in enumerate(seconds):
            ramp = np.arange(round(length * RATE)).astype(np.int16)
            soundfile.write(folder / f"data/{index}.wav", np.stack([ramp, -ramp][:channels], 1), RATE)
            count = round(length * 20)
            phones = [[("aa", "b", "pau")[i % 3], i / 20, (i + 1) / 20] for i in range(count)]
            (folder / f"data/{index}.json").write_text(json.dumps({"phones": phones}))
            manifest.write(json.dumps({"path": f"data/{index}.wav", "duration": length}) + "\n")
    return folder / "all.jsonl"


def take(dataset, count):
    iterator = iter(dataset)
    return [next(iterator) for _ in range(count)]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_segments_are_pieces_of_the_recordings_at_any_sample_and_short_ones_lie_in_zeros(tmp_path):
    starts, short = set(), 0
    for batch in take(audio_dataset(corpus(tmp_path), **OPTIONS, in_memory=True), 40):
        assert batch["pcm"].shape == (3, 1, 2560) and batch["pcm"].dtype == np.float32
        for pcm in np.rint(batch["pcm"][:, 0] * 2**15).astype(int):
            inside = np.flatnonzero(pcm)
            first = pcm[inside[0]] - inside[0]  # where the segment begins in its recording
            if len(inside) < 2559:
                short += 1
                assert -(2560 - 1600) <= first <= 0 and len(inside) == 1599
            else:
                starts.add(int(first))
            np.testing.assert_array_equal(pcm[inside], np.arange(inside[0], inside[-1] + 1) + first)
    assert len({start % 160 for start in starts}) > 40 and short > 5


def test_segments_may_begin_at_whole_code_frames_only_and_lose_nothing_of_short_recordings(tmp_path):
    starts = []
    for batch in take(audio_dataset(corpus(tmp_path, (0.5, 0.1)), **OPTIONS, on_frames=True), 40):
        for pcm in np.rint(batch["pcm"][:, 0] * 2**15).astype(int):
            inside = np.flatnonzero(pcm)
            starts.append(int(pcm[inside[0]] - inside[0]))
            assert len(inside) >= 1599
    assert set(starts) == {0, 1280, 2560, 3840, 5120} and np.bincount(starts)[1280:].any()


def test_the_same_batches_from_memory_from_files_and_after_a_checkpoint(tmp_path):
    path, options = corpus(tmp_path), {**OPTIONS, "teacher": "phones", "gain_db": (-6.0, 6.0)}
    whole = take(audio_dataset(path, **options, in_memory=True), 9)
    same(whole, take(audio_dataset(path, **options, in_memory=False), 9))
    first = iter(audio_dataset(path, **options))
    for _ in range(4):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    resumed = iter(audio_dataset(path, **options))
    resumed.set_state(state)
    same(whole[4:], [next(resumed) for _ in range(5)])
    assert any((a["pcm"] != b["pcm"]).any() for a, b in zip(whole, whole[3:], strict=False))
    other = take(audio_dataset(path, **{**options, "seed": 6}), 1)
    assert (other[0]["pcm"] != whole[0]["pcm"]).any()


def test_the_same_batches_with_worker_processes_and_their_checkpoint(tmp_path):
    path, options = corpus(tmp_path), {**OPTIONS, "teacher": "phones", "in_memory": True}
    whole = take(audio_dataset(path, **options), 7)
    iterator = iter(audio_dataset(path, **options, workers=2))
    same(whole[:5], [next(iterator) for _ in range(5)])
    state = iterator.get_state()
    iterator.close()
    resumed = iter(audio_dataset(path, **options))
    resumed.set_state(state)
    same(whole[5:], [next(resumed) for _ in range(2)])


def test_the_channels_asked_for_are_cut_and_no_others(tmp_path):
    path = corpus(tmp_path, channels=2)
    sign = {}
    for name in ("left", "right", "both"):
        batches = take(audio_dataset(path, **OPTIONS, channels=name), 8)
        sign[name] = set(np.sign(np.concatenate([batch["pcm"].sum(2) for batch in batches])).ravel().tolist())
    assert sign == {"left": {1.0}, "right": {-1.0}, "both": {1.0, -1.0}}
    with pytest.raises(DataError, match=r"stereo.* 1 channel"):
        audio_dataset(path, **OPTIONS)
    for teacher in ("phones", ".wavlm.npy"):
        with pytest.raises(ConfigError, match=r"teacher.*mono"):
            audio_dataset(path, **OPTIONS, channels="both", teacher=teacher)
    with pytest.raises(ConfigError, match=r"'stereo'.*mono, left, right, both"):
        audio_dataset(path, **OPTIONS, channels="stereo")


def test_a_recording_that_was_cut_short_is_refused_from_memory_and_from_files(tmp_path):
    path = corpus(tmp_path)
    report = read_manifest(path)
    wav = report.items[0].path
    files = segments._Files(report.items)
    wav.write_bytes(wav.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"0\.wav: .* 8000 .* 7800 "):
        files.read(0, 0, 0, report.items[0].num_samples)
    with pytest.raises(DataError, match=r"0\.wav: .* 8000 .* 7800 "):
        segments._Memory(report.items)


def test_an_epoch_takes_segments_in_proportion_to_durations():
    def item(seconds):
        return Item("x", Path("x.wav"), RATE, 1, round(seconds * RATE), True)

    places = segments._places([item(0.1), item(1.6), item(0.24)], (0,), 2560)
    np.testing.assert_array_equal(np.bincount(places[:, 0]), [1, 10, 2])
    both = segments._places([item(0.1), item(0.4)], (0, 1), 2560)
    assert sorted(map(tuple, both.tolist())) == [(0, 0), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1)]


def test_gain_keeps_full_scale_and_silence_is_avoided(tmp_path):
    (tmp_path / "data").mkdir()
    pcm = np.zeros(RATE, np.float32)
    pcm[8000:9000] = 0.5
    soundfile.write(tmp_path / "data/0.wav", pcm, RATE)
    (tmp_path / "all.jsonl").write_text('{"path": "data/0.wav", "duration": 1.0}\n')
    path = tmp_path / "all.jsonl"

    def loud(**options):
        found = np.concatenate([b["pcm"] for b in take(audio_dataset(path, **OPTIONS, **options), 60)])
        return np.abs(found).max(axis=(1, 2))

    plain, avoided = loud(skip_silence=0.0), loud(skip_silence=1.0)
    assert (plain > 0).mean() < 0.4 < 0.55 < (avoided > 0).mean()
    gained = loud(gain_db=(-20.0, 20.0), skip_silence=1.0)
    gained = gained[gained > 0]
    assert gained.max() == pytest.approx(1, abs=1e-6) and gained.min() < 0.1 and len(np.unique(gained)) > 30


def test_the_phone_teacher_gives_each_phones_share_of_each_half_frame(tmp_path):
    path = corpus(tmp_path, seconds=(1.0, 0.1))
    for batch in take(audio_dataset(path, **OPTIONS, teacher="phones"), 9):
        assert batch["teacher"].shape == (3, 2, 6)
        for pcm, teacher in zip(batch["pcm"], batch["teacher"], strict=True):
            at = int(np.argmax(pcm[0]))
            start, short = round(float(pcm[0, at]) * 2**15) - at, (pcm != 0).sum() < 2559
            for frame in range(2):
                for half in range(2):
                    samples = start + 1280 * frame + 640 * half + np.arange(640)
                    phone = samples // 800 % 3  # aa, b, pau in turn, 50 ms each
                    if short:  # silence around it
                        phone = np.where((samples < 0) | (samples >= 1600), 2, phone)
                    share = [np.mean(phone == 2), np.mean(phone == 0), np.mean(phone == 1)]
                    np.testing.assert_allclose(teacher[frame, 3 * half : 3 * half + 3], share, atol=2e-3)


def test_lookahead_asks_about_what_was_heard_before_and_time_without_a_phone_is_silence(tmp_path):
    path = corpus(tmp_path, seconds=(0.2,))
    item = Item("0", tmp_path / "data/0.wav", RATE, 1, 3200, True)
    assert path.exists()
    plain, ahead = PhoneTeacher.of([item]), PhoneTeacher.of([item], lookahead=0.04)
    np.testing.assert_allclose(ahead(0, 0.04, 2, 12.5), plain(0, 0.0, 2, 12.5), atol=1e-6)
    late = plain(0, 0.3, 2, 12.5).reshape(4, 3)
    np.testing.assert_array_equal(late, np.tile([1, 0, 0], (4, 1)))
    early = plain(0, -0.06, 1, 12.5).reshape(2, 3)
    np.testing.assert_allclose(early, [[1, 0, 0], [0.5, 0.5, 0]], atol=1e-6)


def test_phones_may_be_given_and_must_cover_those_of_the_data(tmp_path):
    path = corpus(tmp_path)
    batch = take(audio_dataset(path, **OPTIONS, teacher="phones", phones=("pau", "z", "b", "aa")), 1)[0]
    assert batch["teacher"].shape[-1] == 8 and (batch["teacher"][..., [1, 5]] == 0).all()
    with pytest.raises(DataError, match=r"4 .*phones(.|\n)*0\.json: b\n"):
        audio_dataset(path, **OPTIONS, teacher="phones", phones=("pau", "aa"))
    with pytest.raises(DataError, match=r"'pau'.*'aa', 'b', 'pau'"):
        audio_dataset(path, **OPTIONS, teacher="phones", phones=("aa", "b", "pau"))


def test_features_beside_the_recordings_are_averaged_over_each_frame(tmp_path):
    path = corpus(tmp_path, seconds=(1.0, 0.1))
    for index, rows in ((0, 50), (1, 5)):
        np.save(tmp_path / f"data/{index}.w.npy", np.arange(rows, dtype=np.float32)[:, None] * [1, -1])
    items = [Item(str(i), tmp_path / f"data/{i}.wav", RATE, 1, n, True) for i, n in ((0, 16000), (1, 1600))]
    teacher = FeatureTeacher.of(items, ".w.npy", 50.0)
    np.testing.assert_allclose(teacher(0, 0.0, 2, 12.5), [[1.5, -1.5], [5.5, -5.5]], rtol=1e-6)
    np.testing.assert_allclose(teacher(0, 0.01, 1, 12.5), [[2.0, -2.0]], rtol=1e-6)
    np.testing.assert_allclose(teacher(1, -0.5, 1, 12.5), [[0, 0]])
    np.testing.assert_allclose(teacher(1, 0.5, 1, 12.5), [[4, -4]])
    shapes = {b["teacher"].shape for b in take(audio_dataset(path, **OPTIONS, teacher=".w.npy"), 3)}
    assert shapes == {(3, 2, 2)}
    np.save(tmp_path / "data/1.w.npy", np.zeros((50, 2), np.float32))
    with pytest.raises(DataError, match=r"1\.w\.npy: .* 50 .* 50 Hz .* 5\b"):
        audio_dataset(path, **OPTIONS, teacher=".w.npy")
    with pytest.raises(DataError, match="'wavlm'"):
        audio_dataset(path, **OPTIONS, teacher="wavlm")


def test_segments_are_whole_frames(tmp_path):
    with pytest.raises(ConfigError, match=r"12\.5 .*1280"):
        audio_dataset(corpus(tmp_path), **{**OPTIONS, "segment_seconds": 1.0})


@settings(max_examples=50)
@given(st.lists(st.floats(0, 2), min_size=2, max_size=9), st.floats(-0.5, 2.5), st.integers(1, 9), st.floats(0.01, 0.2))
def test_shares_of_spans_that_fill_the_time_sum_to_the_windows_within_it(edges, start, count, width):
    edges = np.unique(edges)
    begins = start + width * np.arange(count)
    shares = overlaps(edges[:-1], edges[1:], begins, width)
    inside = np.clip(begins + width, edges[0], edges[-1]) - np.clip(begins, edges[0], edges[-1])
    np.testing.assert_allclose(shares.sum(1), inside, atol=1e-9)


def test_bad_recordings_are_refused_or_left_out_with_a_warning_that_counts_them(tmp_path, caplog):
    path = corpus(tmp_path)
    (tmp_path / "data/2.wav").unlink()
    with pytest.raises(DataError, match=r"1 of 4 (.|\n)*data/2\.wav: .*2\.wav"):
        audio_dataset(path, **OPTIONS)
    batches = take(audio_dataset(path, **OPTIONS, skip_bad=True), 9)
    assert "1 of 4 items" in caplog.text and "data/2.wav" in caplog.text
    assert max(batch["pcm"].max() for batch in batches) < 0.7 * RATE / 2**15  # none is of the one second's end
