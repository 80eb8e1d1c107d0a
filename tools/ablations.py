"""Ablations of nano, after those of Moshi's paper: models are trained without one part each and compared.

python -m tools.ablations work               all stages, including the data
python -m tools.ablations work --share 0.01  a hundredth of the data and steps, to check all stages

All models are trained from random weights on the same conversations for the same number of steps, fewer than nano's,
and evaluated on the same test sets. A model without an inner monologue has no text, so spoken replies are compared with
the right answers through the recogniser.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jomni.eval.full_duplex.figures import accuracy
from jomni.eval.full_duplex.turns import TurnResult
from tools.make_nano import Stage, jomni, once, run_all, synth, train


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the compared models.

    Args:
      name: of its runs.
      about: the missing part.
      options: changes of `configs/nano/lm.py`.
      codec: whether it uses the codec without semantic distillation.
    """

    name: str
    about: str
    options: tuple[str, ...] = ()
    codec: bool = False


VARIANTS = (
    Variant("whole", "nothing"),
    Variant("wordless", "inner monologue", ("--task.monologue", "false", "--task.data.text_share", "0")),
    Variant("depthless", "depth transformer (a code follows from the frame and the code before it)",
            ("--task.model.depformer_num_layers", "0")),
    Variant("untaught", "semantic distillation", codec=True),
)  # fmt: skip
UNTAUGHT = ("--task.data.teacher", "", "--task.weights.distillation", "0", "--task.weights.spectral", "2",
            "--task.freeze", "")  # fmt: skip
"""Changes of `configs/nano/codec.py`: encoder, codebooks and decoder are trained by the spectral loss alone."""


def stages(work: Path, share: float) -> list[Stage]:
    """Return the stages in order."""
    work = work.absolute()
    conversations, tests, facts, words = (work / n for n in ("conversations", "tests", "facts.txt", "words.model"))
    manifest = conversations / "MANIFEST.jsonl"
    codecs = {False: work / "nano_voice/export", True: work / "untaught_voice/export"}

    def codec(name: str, *options: str) -> tuple[tuple[str, ...], ...]:
        """Return the trainings of a codec: encoder, then acoustic codebooks and decoder, equally long."""
        return (
            train(share, work, "nano/codec", 6_000, "--name", f"{name}_codec",
                  "--task.data.manifest", work / "utterances/MANIFEST.jsonl", *options),
            train(share, work, "nano/voice", 6_000, "--name", f"{name}_voice",
                  "--task.data.manifest", manifest, "--task.init_from", work / f"{name}_codec/export"),
        )  # fmt: skip

    found = [
        Stage("data", "utterances, conversations, test sets", (
            synth(share, "utterances", work / "utterances", "--seed", 11, "--agent-share", 0.3, hours=12),
            synth(share, "conversations", conversations, hours=12),
            synth(share, "tokenizer", words), synth(share, "facts", facts),
            synth(share, "tests", tests, "--scale", max(0.02, 0.25 * share)),
        )),
        Stage("codec", "the codec of nano", codec("nano")),
        Stage("untaught codec", "without semantic distillation", codec("untaught", *UNTAUGHT)),
    ]  # fmt: skip
    for untaught, model in codecs.items():
        out = work / ("untaught.codes" if untaught else "codes")
        found.append(Stage(f"codes of {model.parent.name}", "codes of the conversations",
                           (jomni("tokenize", manifest, out, "--model", model),)))  # fmt: skip
    for variant in VARIANTS:
        codes = work / ("untaught.codes" if variant.codec else "codes")
        report = work / f"{variant.name}.report"
        training = train(share, work, "nano/lm", 2_000, "--name", variant.name, "--task.data.folders", codes,
                         "--task.data.text", facts, "--task.tokenizer", words, "--task.codec", codecs[variant.codec],
                         *variant.options)  # fmt: skip
        evaluation = jomni("eval", "talk", tests, "--model", work / variant.name / "export", "--seeds", 1,
                          "--minutes", 0, "--frames", 0, "--out", report)  # fmt: skip
        found.append(Stage(variant.name, f"without {variant.about}", once(report, training, evaluation)))
    return found


def show(work: Path, console: Console) -> None:
    """Print the table, and write it to WORK/ablations.json."""
    table = Table("without", "user ASR head, in training", "answers, text",
                  "spoken replies, WER against the answer", "latency", "stops")  # fmt: skip
    rows = {}
    for variant in VARIANTS:
        report = json.loads((work / f"{variant.name}.report" / "report.json").read_text())
        right = accuracy(_turns(work / f"{variant.name}.report" / "turns.jsonl")).as_dict()
        expected, behaviour = report["replies"]["expected"], report["behaviour"]
        metrics = (work / variant.name / "metrics.jsonl").read_text().splitlines()
        heard = json.loads(metrics[-1])["heard_accuracy"]
        rows[variant.about] = {"heard": heard, "answers": right, "replies": expected, "latency": behaviour["latency"],
                               "stops": behaviour["stops"]}  # fmt: skip
        latency = f"{(behaviour['latency']['value'] or float('nan')) * 1e3:.0f} ms"
        text = "no text" if variant.name == "wordless" else _share(right)
        table.add_row(variant.about, f"{heard:.0%}", text, _share(expected), latency, _share(behaviour["stops"]))
    (work / "ablations.json").write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)


def _turns(path: Path) -> list[TurnResult]:
    """Return the turns of a report that have plain questions."""
    turns = [TurnResult(**json.loads(line)) for line in path.read_text().splitlines()]
    return [turn for turn in turns if turn.plain]


def _share(estimate: dict[str, float | None]) -> str:
    if estimate["value"] is None:
        return "none"
    return f"{estimate['value']:.0%} ({estimate['low']:.0%} to {estimate['high']:.0%})"


def main() -> None:
    """Run the stages one after another and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.ablations", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, help="folder for data, runs and reports; existing ones are continued")
    parser.add_argument("--share", type=float, default=1.0, help="fraction of data and training steps (default: 1)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    run_all(stages(args.work, args.share), parser)
    show(args.work, Console(width=120))


if __name__ == "__main__":
    main()
