"""Reading of test sets, and errors that name what is wrong."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from jomni.eval.full_duplex.test_set import ItemError, answers, load_test_set
from tests.unit.eval.cases import RATE, noise, turn, write_item


def test_an_item_and_its_turns(tmp_path):
    first = turn(1.0, 2.0, (2.2, 3.0), pause=[1.3, 1.6], voice="flite:rms", kind="add", cell="unseen_both")
    write_item(tmp_path, "a", [first, turn(3.5, 4.0, None, answers=["Seven.", "it is seven"])], 5.0)
    (item,) = load_test_set(tmp_path)
    assert (item.name, item.sample_rate, item.seconds) == ("data/a.wav", RATE, 5.0)
    one, two = item.turns
    assert (one.kind, one.cell, one.voice, one.agent) == ("add", "unseen_both", "flite:rms", (2.2, 3.0))
    assert [(e.event, e.start, e.end) for e in one.events] == [("pause", 1.3, 1.6)]
    assert (two.cell, two.agent, two.interrupts, two.cut) == ("seen", None, False, False)
    assert two.accepts("seven") and two.accepts("It is SEVEN!") and not two.accepts("it is") and not two.accepts("")
    assert answers([item]) == ["i am well", "Seven.", "it is seven"]
    agent, user = item.read(RATE)
    assert not agent[: round(2.2 * RATE)].any() and agent[round(2.5 * RATE) :].any()
    assert user[round(1.1 * RATE) : round(1.2 * RATE)].any() and not user[round(1.4 * RATE) : round(1.5 * RATE)].any()
    assert len(item.read(24_000)[0]) == 5 * 24_000


def test_the_folder_of_a_set_is_the_default_cell(tmp_path):
    names = ("contents", "pauses")
    for name in names:
        path = write_item(tmp_path / name, "a", [turn(1.0, 2.0, (2.2, 3.0))], 4.0, cell="x")
        held = json.loads(path.with_suffix(".json").read_text())
        del held["cell"]
        path.with_suffix(".json").write_text(json.dumps(held))
    found = {item.name: item.turns[0].cell for item in load_test_set(tmp_path)}
    assert found == {f"{name}/data/a.wav": name for name in names}


def test_the_next_utterance_is_mixed_into_the_recording(tmp_path):
    following = {"after": 0.7, "kind": "add", "question": "wait what", "answer": "seven"}
    write_item(tmp_path, "a", [turn(1.0, 2.0, (2.2, 5.0))], 6.0, following=(following, 1.0), background=0.001)
    write_item(tmp_path, "b", [turn(1.0, 2.0, (2.2, 5.0))], 3.0 + 2, following=({"after": 2.7, "word": "yeah"}, 1.0))
    interrupted, accompanied = load_test_set(tmp_path)
    question = interrupted.turns[1]
    assert (question.question, question.start, question.interrupts) == ("wait what", pytest.approx(2.9), True)
    assert question.end == pytest.approx(3.9) and question.cell == "seen"
    user = interrupted.read(RATE)[1]
    whole = soundfile.read(interrupted.path, dtype="float32")[0][:, 1]
    first, last = round(2.9 * RATE), round(3.9 * RATE)
    added = soundfile.read(interrupted.path.with_suffix(".next.wav"), dtype="float32")[0]
    np.testing.assert_allclose(user[first:last] - whole[first:last], added, atol=1e-6)
    np.testing.assert_array_equal(user[:first], whole[:first])
    (event,) = accompanied.turns[0].events
    assert (event.event, event.start) == ("backchannel", pytest.approx(4.9))
    assert len(accompanied.read(RATE)[1]) == round(5.9 * RATE)  # the recording is continued where it is too short


def break_turn(**changes):
    return lambda held: held["turns"][0].update(changes)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda held: held.pop("turns"), "'turns'"),
        (lambda held: held.update(turns=[3]), "object"),
        (break_turn(question=" "), "'question'"),
        (break_turn(answer="..."), "'answer'"),
        (break_turn(answer=None), "'answer'"),
        (break_turn(user_start=None), "'user_start' and 'user_end'"),
        (break_turn(user_start=2.5), "4.00 s"),
        (break_turn(agent_end=9.0), "4.00 s"),
        (break_turn(pause=[1.5]), "(pause)"),
        (break_turn(backchannel=["yeah", "now", 3]), "(backchannel)"),
        (lambda held: held["turns"].append(held["turns"][0]), "overlap"),
        (lambda held: held.update(next={"after": -1}), "'next'"),
        (lambda held: held.update(next={"after": 1.0}), ".next.wav"),
    ],
)
def test_a_faulty_item_is_refused_by_name(tmp_path, break_it, says):
    write_item(tmp_path, "good", [turn(1.0, 2.0, (2.2, 3.0))], 4.0)
    path = write_item(tmp_path, "bad", [turn(1.0, 2.0, (2.2, 3.0))], 4.0)
    held = json.loads(path.with_suffix(".json").read_text())
    break_it(held)
    path.with_suffix(".json").write_text(json.dumps(held))
    with pytest.raises(ItemError) as error:
        load_test_set(tmp_path)
    message = str(error.value)
    assert says in message and "line 2: " in message and "\n" not in message


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "tests: "),
        (lambda folder: (folder / "MANIFEST.jsonl").unlink(), "tests: .*MANIFEST.jsonl"),
        (lambda folder: (folder / "MANIFEST.jsonl").write_text(""), "tests: .*manifest"),
        (lambda folder: (folder / "MANIFEST.jsonl").write_text("{"), "line 1: .*JSON"),
        (lambda folder: (folder / "MANIFEST.jsonl").write_text('{"name": "x"}'), "line 1: 'path'"),
        (lambda folder: (folder / "data/a.wav").unlink(), "a.wav: "),
        (lambda folder: (folder / "data/a.json").unlink(), "a.json: "),
        (lambda folder: (folder / "data/a.json").write_text("[]"), r"a.json: .*\[\]"),
        (lambda folder: (folder / "data/a.wav").write_bytes(b"RIFF"), "a.wav: .*Error opening"),
        (lambda folder: soundfile.write(folder / "data/a.wav", noise(1, 0.1), RATE), "a.wav: .*stereo.* 1 "),
    ],
)
def test_a_faulty_folder_is_refused(tmp_path, break_it, says):
    folder = tmp_path / "tests"
    write_item(folder, "a", [turn(1.0, 2.0, (2.2, 3.0))], 4.0)
    assert len(load_test_set(folder)) == 1
    break_it(folder)
    with pytest.raises(ItemError, match=says):
        load_test_set(folder)


@pytest.mark.parametrize("name", ["MANIFEST.jsonl", "a.json"])
def test_files_that_are_not_utf8_are_named(tmp_path, name):
    write_item(tmp_path, "a", [turn(0.6, 1.6, (1.84, 2.8))], 4.0)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(path.read_bytes().replace(b'"', b'"\xe9', 1))
    with pytest.raises(ItemError, match=rf"{name}: .*UTF-8") as error:
        load_test_set(tmp_path)
    assert str(error.value).count(str(path)) == 1
