"""Report of `jomni eval turns`: tables and examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from jomni.eval.full_duplex.replies import ERROR_RATES, ReplyErrors
from jomni.eval.recogniser import normalise
from jomni.eval.report import number, percent, plain, table, write_json
from jomni.eval.turn_based.evaluation import Answer, Result, figures, relation
from jomni.models.mini_omni.streams import Task

TASKS = {
    Task.T1_T2: "text to text",
    Task.A1_T2: "speech to text",
    Task.A1_A2: "speech to speech",
    Task.T1_A2: "text to speech",
    Task.A1_T1: "speech to its transcript",
}
"""Task -> its label, in the order of the tables."""


def write_report(folder: Path, result: Result, settings: Mapping[str, Any]) -> None:
    """Write the report into an empty folder: report.md, report.json, answers.jsonl (all answers), examples/*.wav."""
    content = {
        "settings": dict(settings),
        "tasks": {task.value: figures(result.answers, task) for task in _done(result)},
        "left_out": {task.value: why for task, why in result.left_out.items()},
        "voice_by_writing": {task.value: relation(result.answers, task, Task.T1_T2)
                             for task in (Task.A1_T2, Task.A1_A2) if task in _done(result)},
        "replies": {task.value: found for task, found in result.replies.items()},
        "codec": result.codec, "seconds": result.seconds,
    }  # fmt: skip
    write_json(folder / "report.json", content)
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
        for answer in result.answers:
            row = plain(answer) | {"task": answer.task.value, "exact": answer.exact}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    examples = _examples(folder, result)
    (folder / "report.md").write_text(_markdown(content, result, examples), encoding="utf-8")


def task_table(result: Result) -> str:
    """Return the figures of each task in Markdown."""
    rows = []
    for task in _done(result):
        found = figures(result.answers, task)
        rows.append([
            f"{task.value}: {TASKS[task]}", percent(found["exact"]), percent(found["wer"]), percent(found["ended"]),
            number(found["steps"], 0), number(found["first_sound"], 0), str(found["exact"].count),
        ])  # fmt: skip
    head = ["task", "exact", "WER of the text", "ended", "steps", "steps to the first sound", "n"]
    return table(head, rows)


def _done(result: Result) -> list[Task]:
    return [task for task in TASKS if task not in result.left_out]


def _examples(folder: Path, result: Result) -> list[tuple[str, Answer]]:
    named = []
    for count, (answer, pcm) in enumerate(result.examples):
        (folder / "examples").mkdir(exist_ok=True)
        name = f"examples/{count:02d}-{answer.task.value}.wav"
        soundfile.write(folder / name, pcm, result.sample_rate, subtype="PCM_16")
        named.append((name, answer))
    return named


def _markdown(content: Mapping[str, Any], result: Result, examples: Sequence[tuple[str, Answer]]) -> str:
    relations = [[f"{task} by T1-T2", percent(found)] for task, found in content["voice_by_writing"].items()]
    parts = [
        "# Evaluation of a turn-based model", "",
        *(f"- {name}: {value}" for name, value in content["settings"].items()),
        f"- duration: {result.seconds / 60:.1f} minutes", "",
        "Intervals are 95 % (Wilson for shares, bootstrap for the rest). Definitions: docs/guides/evaluate.md.", "",
        task_table(result), "",
        *(f"- {task}: left out, {why}" for task, why in content["left_out"].items()), "",
    ]  # fmt: skip
    if relations:
        parts += ["Right answers to spoken questions over right answers to written ones:", "",
                  table(["tasks", "ratio"], relations), ""]  # fmt: skip
    if result.replies:
        parts += ["## Spoken replies", "", "Word error rates of the recogniser against the model's own text.", "",
                  _reply_table(result.replies), "",
                  f"The codec's decoding of the answer codes in the set, against the answers in the set: "
                  f"{percent(result.codec)} (n = {result.codec.count}).", ""]  # fmt: skip
        rows = [[task.value, *map(_short, row)] for task, found in result.replies.items()
                 for row in found.transcripts if normalise(row[0]) != row[1]]  # fmt: skip
        parts += [
            table(["task", "text", "transcript of the reply", "transcript of the synthesiser's audio"], rows[:15]),
            "",
        ]
    parts += _wrong(result.answers)
    if examples:
        rows = [[f"[{name}]({name})", answer.question, _short(answer.said)] for name, answer in examples]
        parts += ["## Examples", "", table(["file", "question", "text"], rows), ""]
    return "\n".join(parts)


def _reply_table(replies: Mapping[Task, ReplyErrors]) -> str:
    rows = [
        [what, *(percent(getattr(found, name)) for found in replies.values())] for name, what in ERROR_RATES.items()
    ]
    counts = ["replies", *(str(found.expected.count) for found in replies.values())]
    return table(["audio", *(task.value for task in replies)], [*rows, counts])


def _wrong(answers: Sequence[Answer], shown: int = 20) -> list[str]:
    """Return the most frequent wrong answers."""
    wrong = Counter((a.task.value, a.question, a.said) for a in answers if not a.exact)
    if not wrong:
        return []
    rows = [[task, asked, _short(said), str(n)] for (task, asked, said), n in wrong.most_common(shown)]
    return ["## Wrong answers, most frequent first", "", table(["task", "question", "text", "times"], rows), ""]


def _short(text: str) -> str:
    return text if 0 < len(text) <= 90 else text[:87] + "..." if text else "(empty)"
