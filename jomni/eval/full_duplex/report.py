"""Report of `jomni eval talk`: tables, plots and examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from jomni.eval import plots
from jomni.eval.full_duplex.evaluation import Plan, Result
from jomni.eval.full_duplex.figures import accuracy, behaviours, long_gain, slowest_frames
from jomni.eval.full_duplex.replies import ERROR_RATES
from jomni.eval.full_duplex.session import Outcome
from jomni.eval.full_duplex.turns import TurnResult
from jomni.eval.intervals import Estimate
from jomni.eval.recogniser import normalise
from jomni.eval.report import milliseconds, number, percent, plain, points, table, write_json

BEHAVIOUR = {
    "take_over": "takes over: any sound after the question",
    "take_over_fdb": "takes over (Full-Duplex-Bench: a second or more, or over three words)",
    "latency": "response latency, median, s",
    "latency_p90": "response latency, 90th percentile, s",
    "speaks_over": "speaks over the user (80 ms or more during the question)",
    "waits": "waits through a pause inside a question, to the question's end",
    "pause_take_over_fdb": "takes over in a pause (Full-Duplex-Bench; lower is better)",
    "stops": "stops within 1 s when interrupted",
    "stop_time": "stop time when interrupted, median, s",
    "interruptions_missed": "interruptions for which the agent was silent (not in the two figures above)",
    "continues": "continues through a back-channel of the user",
    "endless": "turns of recordings with an answer that did not end",
}


def write_report(folder: Path, result: Result, plan: Plan, settings: Mapping[str, Any]) -> None:
    """Write the report into an empty folder.

    Files: report.md, report.json, turns.jsonl (all turns), accuracy.png, cells.png, latency.png, timeline.png,
    examples/*.wav (stereo: agent left, user right, as a live listener hears them).
    """
    asked = [turn for turn in result.turns if turn.plain]
    cells = {cell: accuracy(result.turns, cell=cell) for cell in sorted({turn.cell for turn in result.turns})}
    kinds = {
        kind: {cell: accuracy(asked, kind=kind, cell=cell) for cell in sorted({turn.cell for turn in asked})}
        for kind in sorted({turn.kind for turn in asked})
    }
    behaviour = behaviours(result.turns)
    frames = 1e3 * np.array(result.frames)
    timing = {f"p{q}": float(np.percentile(frames, q)) for q in (50, 90, 99)} if len(frames) else {}
    content = {
        "settings": dict(settings), "cells": cells, "kinds": kinds, "behaviour": behaviour,
        "seeds": {str(s): accuracy(turn for turn in asked if turn.seed == s) for s in range(plan.seeds)},
        "voices": {voice: accuracy(asked, voice=voice) for voice in sorted({turn.voice for turn in asked})},
        "replies": result.replies, "milliseconds_per_frame": timing, "slowest_frames": slowest_frames(result.frames),
        "long": {"minutes": plan.minutes, "gain": long_gain(result.long),
                 "start": _share(first for first, _ in result.long), "again": _share(again for _, again in result.long),
                 "pairs": [(first.as_dict(), again.as_dict()) for first, again in result.long]},
        "seconds": result.seconds,
    }  # fmt: skip
    write_json(folder / "report.json", content)
    with (folder / "turns.jsonl").open("w", encoding="utf-8") as file:
        for turn in result.turns:
            file.write(json.dumps(plain(turn.as_dict()), ensure_ascii=False) + "\n")
    _plots(folder, result, kinds, cells)
    examples = _examples(folder, result.examples)
    (folder / "report.md").write_text(_markdown(content, result, plan, examples), encoding="utf-8")


def summary_table(result: Result, plan: Plan) -> str:
    """Return the main figures in Markdown."""
    behaviour = behaviours(result.turns)
    rows = [
        (f"answer text exact: {cell or 'all'}", percent, accuracy(result.turns, cell=cell))
        for cell in sorted({turn.cell for turn in result.turns if turn.plain})
    ]
    if result.replies is not None:
        rows.append(("spoken reply, word error rate above the synthesiser's", points, result.replies.above))
    rows += [
        ("speaks over the user, share of turns", percent, behaviour["speaks_over"]),
        ("response latency, median", milliseconds, behaviour["latency"]),
        ("waits through a pause inside a question", percent, behaviour["waits"]),
        ("stops within 1 s when interrupted", percent, behaviour["stops"]),
    ]
    if result.frames:
        rows.append(("whole duplex frame, 99th percentile", milliseconds, slowest_frames(result.frames)))
    if result.long:
        rows.append((f"answers around minute {plan.minutes:g}, against the start", points, long_gain(result.long)))
    return table(
        ["what", "measured [95 %]", "n"], [[what, show(found), str(found.count)] for what, show, found in rows]
    )


def _share(turns: Any) -> Estimate:
    return accuracy(list(turns))


def _plots(folder: Path, result: Result, kinds: Mapping[str, Any], cells: Mapping[str, Estimate]) -> None:
    named = {cell: {"answers": found} for cell, found in cells.items()}
    plots.bars(folder / "cells.png", named, "answer text exact, by cell, 95 % intervals")
    by_kind = {kind: {cell: e for cell, e in found.items() if e.count} for kind, found in kinds.items()}
    plots.bars(folder / "accuracy.png", by_kind, "answer text exact, by kind of question and cell, 95 % intervals")
    latencies = [1e3 * t.latency for t in result.turns if t.latency is not None]
    marks = {"median": float(np.median(latencies))} if latencies else {}
    plots.histogram(folder / "latency.png", latencies, "ms", "from the end of the question to the first sound", marks)
    if result.examples:
        example = max(result.examples, key=lambda outcome: len(outcome.words))
        plots.timeline(folder / "timeline.png", example, f"{example.item.name}, seed {example.seed}")


def _examples(folder: Path, outcomes: Sequence[Outcome]) -> list[tuple[str, Outcome]]:
    named = []
    if outcomes:
        (folder / "examples").mkdir()
    for number_, outcome in enumerate(outcomes):
        name = f"examples/{number_:02d}.wav"
        length = max(len(outcome.agent_pcm), len(outcome.user_pcm))
        both = [np.pad(wave, (0, length - len(wave))) for wave in (outcome.agent_pcm, outcome.user_pcm)]
        soundfile.write(folder / name, np.stack(both, axis=1), outcome.sample_rate, subtype="PCM_16")
        named.append((name, outcome))
    return named


def _markdown(content: Mapping[str, Any], result: Result, plan: Plan, examples: Sequence[tuple[str, Outcome]]) -> str:
    settings = content["settings"]
    parts = [
        "# Evaluation of a full-duplex model", "",
        *(f"- {name}: {value}" for name, value in settings.items()),
        f"- duration: {result.seconds / 60:.1f} minutes", "",
        "Intervals are 95 % (Wilson for shares, bootstrap for the rest). Definitions: docs/guides/evaluate.md.", "",
        summary_table(result, plan), "",
        "## Answers", "",
        table(["cell", "exact", "n"],
              [[cell, percent(e), str(e.count)] for cell, e in content["cells"].items()]), "",
        "![by cell](cells.png)", "",
        table(["kind", *next(iter(content["kinds"].values()), {})],
              [[kind, *map(percent, found.values())] for kind, found in content["kinds"].items()]), "",
        "![by kind](accuracy.png)", "",
        table(["seed", "exact, all cells"], [[seed, percent(e)] for seed, e in content["seeds"].items()]), "",
        *_confusions(result.turns),
        "## Behaviour", "",
        table(["what", "measured", "n"],
              [[text, (number if name.startswith(("latency", "stop_time")) else percent)(content["behaviour"][name]),
                str(content["behaviour"][name].count)] for name, text in BEHAVIOUR.items()]), "",
        "![latency](latency.png)", "", "![one conversation](timeline.png)" if examples else "", "",
    ]  # fmt: skip
    if result.replies is not None:
        found = result.replies
        parts += [
            "## Spoken replies", "", "Word error rates of the recogniser against the model's own text.", "",
            table(["audio", "WER", "n"],
                  [[what, percent(getattr(found, name)), str(getattr(found, name).count)]
                   for name, what in ERROR_RATES.items()]), "",
            table(["text", "transcript of the reply", "transcript of the synthesiser's audio"],
                  [[*map(_short, row)] for row in found.transcripts if normalise(row[0]) != row[1]][:15]), "",
        ]  # fmt: skip
    if content["milliseconds_per_frame"]:
        timing = ", ".join(f"{name} {value:.1f} ms" for name, value in content["milliseconds_per_frame"].items())
        parts += ["## Time of a frame, one conversation", "", f"{timing} ({len(result.frames)} frames)", ""]
    if result.long:
        parts += [
            "## Long conversations", "",
            f"The same {len(result.long)} questions: at the start {percent(content['long']['start'])}, "
            f"later {percent(content['long']['again'])}.", "",
        ]  # fmt: skip
    if examples:
        parts += ["## Examples (stereo: agent left, user right)", ""]
        parts += [
            table(["file", "question", "text"], [
                [f"[{name}]({name})", " / ".join(t.question for t in o.item.turns), _short(o.text(o.begin, o.end))]
                for name, o in examples
            ]), "",
        ]  # fmt: skip
    return "\n".join(parts)


def _short(text: str) -> str:
    return text if 0 < len(text) <= 90 else text[:87] + "..." if text else "(empty)"


def _confusions(turns: Sequence[TurnResult], shown: int = 20) -> list[str]:
    """Return the most frequent wrong answers."""
    wrong = Counter((t.kind, t.question, t.expected, t.said) for t in turns if t.correct is False)
    if not wrong:
        return []
    rows = [[kind, asked, due, _short(said), str(n)] for (kind, asked, due, said), n in wrong.most_common(shown)]
    return [
        "Wrong answers, most frequent first:",
        "",
        table(["kind", "question", "expected", "text", "times"], rows),
        "",
    ]
