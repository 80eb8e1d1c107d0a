"""Manifests are read whole and checked file by file: every kind of bad item is found, told, and refused or skipped."""

import json
import math

import numpy as np
import pytest
import soundfile

from jomni.data.manifest import Kind, Needs, check_manifest, read_manifest
from jomni.data.report import SHOWN
from jomni.errors import DataError

RATE = 1600
NEEDS = Needs(RATE, 2, ("alignments",))
GOOD = [["a", [0.1, 0.3], "SPEAKER_MAIN"], ["b", [0.2, 0.5], "USER"], ["c", [0.7, 1.05], "SPEAKER_MAIN"]]


@pytest.fixture
def folder(tmp_path):
    """Three sound items of a second."""
    (tmp_path / "data").mkdir()
    for name in "xyz":
        soundfile.write(tmp_path / f"data/{name}.wav", np.full((RATE, 2), 0.1), RATE)
        (tmp_path / f"data/{name}.json").write_text(json.dumps({"alignments": GOOD}))
    lines = [json.dumps({"path": f"data/{name}.wav", "duration": 1.0}) for name in "xyz"]
    (tmp_path / "all.jsonl").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def words(folder, *entries):
    (folder / "data/y.json").write_text(json.dumps({"alignments": list(entries)}))


def says(word, start, end):
    return [word, [start, end], "SPEAKER_MAIN"]


BAD = {
    "gone": (Kind.MISSING_AUDIO, "there is no file", lambda f: (f / "data/y.wav").unlink()),
    "text": (Kind.UNREADABLE_AUDIO, "not recogni", lambda f: (f / "data/y.wav").write_text("?")),
    "empty": (Kind.UNREADABLE_AUDIO, "", lambda f: (f / "data/y.wav").write_bytes(b"")),
    "no samples": (
        Kind.UNREADABLE_AUDIO, "no samples", lambda f: soundfile.write(f / "data/y.wav", np.zeros((0, 2)), RATE)
    ),
    "mono": (
        Kind.WRONG_CHANNELS, r"1 channel .*2 channels",
        lambda f: soundfile.write(f / "data/y.wav", np.zeros(RATE), RATE),
    ),
    "rate": (
        Kind.WRONG_RATE, "800 Hz.*1600 Hz",
        lambda f: soundfile.write(f / "data/y.wav", np.zeros((800, 2)), 800),
    ),
    "duration": (
        Kind.WRONG_DURATION, " 1 s.*1.200 s",
        lambda f: soundfile.write(f / "data/y.wav", np.zeros((1920, 2)), RATE),
    ),
    "no json": (Kind.MISSING_JSON, "data/y.json", lambda f: (f / "data/y.json").unlink()),
    "half a json": (Kind.BROKEN_JSON, "", lambda f: (f / "data/y.json").write_text('{"alignments": [[')),
    "json without words": (Kind.BROKEN_JSON, "'alignments'", lambda f: (f / "data/y.json").write_text("{}")),
    "list": (Kind.BROKEN_JSON, "JSON object", lambda f: (f / "data/y.json").write_text("[]")),
    "form": (Kind.BROKEN_JSON, "entry 1 of 'alignments'", lambda f: words(f, says("a", 0, 1), ["b", 0, 1])),
    "texts as times": (Kind.BROKEN_JSON, "entry 0", lambda f: words(f, says("a", "0", "1"))),
    "negative": (Kind.BAD_TIMES, "'b'.*-0.2 to 0.3", lambda f: words(f, says("b", -0.2, 0.3))),
    "backwards": (Kind.BAD_TIMES, "'b'.*0.3 to 0.2", lambda f: words(f, says("b", 0.3, 0.2))),
    "unordered": (
        Kind.BAD_TIMES, "'b'.*0.2 to 0.3 s.* 0.3 s",
        lambda f: words(f, says("a", 0.3, 0.4), says("b", 0.2, 0.3)),
    ),
    "beyond": (Kind.BAD_TIMES, "'b'.*0.3 to 1.2 s.* 1.000 s", lambda f: words(f, says("b", 0.3, 1.2))),
    "infinite": (Kind.BAD_TIMES, "'b'.*0.3 to inf", lambda f: words(f, says("b", 0.3, math.inf))),
}  # fmt: skip


def test_sound_items_are_given_with_what_their_files_say(folder):
    report = read_manifest(folder / "all.jsonl", NEEDS)
    assert [item.name for item in report.items] == ["data/x.wav", "data/y.wav", "data/z.wav"] and report.bad == 0
    item = report.items[1]
    assert (item.sample_rate, item.channels, item.num_samples, item.seconds) == (RATE, 2, RATE, 1.0)
    assert item.path == folder / "data/y.wav" and item.read_sidecar() == {"alignments": GOOD} and item.exact_int16


@pytest.mark.parametrize("case", BAD)
def test_each_kind_of_bad_item_is_told_with_its_file_and_refused_or_skipped(case, folder):
    kind, detail, spoil = BAD[case]
    spoil(folder)
    report = check_manifest(folder / "all.jsonl", NEEDS)
    assert [problem.kind for problem in report.problems] == [kind] and report.counts() == {kind: 1}
    assert report.problems[0].where.startswith("data/y.")
    with pytest.raises(DataError, match=f"1 of 3 (.|\n)*data/y(.|\n)*{kind.value}.*({detail})"):
        read_manifest(folder / "all.jsonl", NEEDS)
    report = read_manifest(folder / "all.jsonl", NEEDS, skip_bad=True)
    assert [item.name for item in report.items] == ["data/x.wav", "data/z.wav"] and report.bad == 1
    assert f"1 of 3 items cannot be used: 1 x {kind.value}" == report.summary()


@pytest.mark.parametrize(
    "line", ['{"path": "data/y.wav"', '{"path": "data/y.wav"}', '{"path": 3, "duration": 1}', "[]",
             '{"path": "data/y.wav", "duration": "long"}', '{"path": "data/y.wav", "duration": NaN}',
             '{"path": "data/y.wav", "duration": -1}', '{"path": "", "duration": 1}']
)  # fmt: skip
def test_lines_of_another_form_are_told_by_their_number(line, folder):
    path = folder / "all.jsonl"
    path.write_text(path.read_text().replace('{"path": "data/y.wav", "duration": 1.0}', line))
    (problem,) = check_manifest(path, NEEDS).problems
    assert problem.kind is Kind.BAD_LINE and problem.where == f"{path}:2"


def test_all_problems_are_found_before_the_first_is_told(folder):
    BAD["mono"][2](folder)
    BAD["beyond"][2](folder)
    (folder / "data/z.wav").unlink()
    with pytest.raises(DataError) as error:
        read_manifest(folder / "all.jsonl", NEEDS)
    text = str(error.value)
    assert "2 of 3 " in text and text.count("data/y") == 2 and text.count(f"{Kind.MISSING_AUDIO.value}: ") == 1
    with pytest.raises(DataError, match=r"all\.jsonl: (.|\n)*data/x\.wav: "):
        (folder / "data/x.json").unlink()
        read_manifest(folder / "all.jsonl", NEEDS, skip_bad=True)


def test_many_problems_are_counted_beyond_those_listed(folder):
    lines = [json.dumps({"path": f"data/{i}.wav", "duration": 1}) for i in range(SHOWN + 7)]
    (folder / "all.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"27 of 27 (.|\n)* 7 ") as error:
        read_manifest(folder / "all.jsonl")
    assert len(str(error.value).splitlines()) == 1 + SHOWN + 1 + 1


def test_only_what_is_needed_is_asked_for(folder):
    for case in ("mono", "rate", "half a json"):
        BAD[case][2](folder)
        assert not check_manifest(folder / "all.jsonl").problems
    with pytest.raises(DataError, match=r"none\.jsonl: "):
        read_manifest(folder / "none.jsonl")


def test_recordings_are_read_to_their_end(folder):
    wav = folder / "data/y.wav"
    soundfile.write(wav, np.full((RATE, 2), np.nan), RATE, subtype="FLOAT")
    (problem,) = check_manifest(folder / "all.jsonl", NEEDS).problems
    assert problem.kind is Kind.UNREADABLE_AUDIO and "is nan" in problem.detail
    wav.unlink()
    soundfile.write(wav, np.random.default_rng(0).uniform(-1, 1, (RATE, 2)), RATE, format="FLAC")
    assert not check_manifest(folder / "all.jsonl", NEEDS).problems
    wav.write_bytes(wav.read_bytes()[:-5000])  # its header still promises all
    (problem,) = check_manifest(folder / "all.jsonl", NEEDS).problems
    assert problem.kind is Kind.UNREADABLE_AUDIO and "truncated" in problem.detail
    assert len(read_manifest(folder / "all.jsonl", NEEDS, skip_bad=True).items) == 2


def test_samples_that_16_bits_do_not_hold_are_known(folder):
    soundfile.write(folder / "data/y.wav", np.zeros((RATE, 2)), RATE, subtype="FLOAT")
    assert [item.exact_int16 for item in check_manifest(folder / "all.jsonl", NEEDS).items] == [True, False, True]


def test_phones_and_words_have_their_times_beside_their_names(folder):
    (folder / "data/y.json").write_text('{"phones": [["a", 0, 0.5], ["b", 0.5, 1.5]], "words": [["ab", 0, 1]]}')
    found = check_manifest(folder / "all.jsonl", Needs(sidecar=("phones", "words")))
    assert [(p.where, p.kind) for p in found.problems if p.where == "data/y.json"] == [("data/y.json", Kind.BAD_TIMES)]
    assert {p.kind for p in found.problems if p.where != "data/y.json"} == {Kind.BROKEN_JSON}
