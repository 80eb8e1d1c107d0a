"""The recipe of `nano`, from nothing to a model that talks: stages of commands, each of which goes on where it stopped.

python -m tools.make_nano work                the whole of it
python -m tools.make_nano work --share 0.01   a hundredth of the data and the steps, to see every stage at work

Needs flite and espeak-ng (apt install flite espeak-ng) and `pip install -e '.[train]'`.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Some commands."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]

    def run(self) -> None:
        """Runs the commands; raises `subprocess.CalledProcessError` at the first that fails."""
        for command in self.commands:
            print("+", shlex.join(command).replace(sys.executable, "python"), flush=True)
            subprocess.run(command, cwd=ROOT, check=True)


def synth(share: float, *words: object, hours: float = 0.0) -> tuple[str, ...]:
    """A command of tools.synth, for a share of so many hours."""
    length = ("--hours", f"{max(0.02, hours * share):.3g}") if hours else ()
    return sys.executable, "-m", "tools.synth", *map(str, words), *length


def jomni(*words: object) -> tuple[str, ...]:
    """A command of jomni."""
    return sys.executable, "-m", "jomni", *map(str, words)


def train(share: float, work: Path, config: str, steps: int, *words: object) -> tuple[str, ...]:
    """A training, for a share of so many steps."""
    return jomni("train", f"configs/{config}.py", "--out", work, "--steps", max(2, round(steps * share)), *words)


def recipe(work: Path, share: float = 1.0) -> dict[str, Stage]:
    """The stages by name, in their order.

    Args:
      work: folder for data and runs.
      share: of the hours of data and of the steps of training, 1 is the recipe.
    """
    work = work.absolute()
    codec, voice, lm = (work / run / "export" for run in ("nano_codec", "nano_voice", "nano_lm"))
    corpora = work / "conversations", work / "readings"
    conversations, *_ = manifests = [corpus / "MANIFEST.jsonl" for corpus in corpora]
    codes = [work / f"{corpus.name}.codes" for corpus in corpora]
    words, facts = work / "words.model", work / "facts.txt"
    stages = (
        Stage("codec", "the codec hears: every voice, each frame's phones in its semantic codebooks", (
            synth(share, "utterances", work / "utterances", "--seed", 11, "--agent-share", 0.12, hours=24),
            train(share, work, "nano_codec", 11_000, "--task.data.manifest", work / "utterances/MANIFEST.jsonl"),
        )),
        Stage("voice", "conversations, and from the agent's side of them how the codec speaks", (
            synth(share, "conversations", corpora[0], hours=60),
            train(share, work, "nano_voice", 12_000, "--task.data.manifest", conversations, "--task.init_from", codec),
        )),
        Stage("codes", "the agent reads every word of its world; the codec's codes of readings and conversations", (
            synth(share, "tokenizer", words),
            synth(share, "facts", facts),
            synth(share, "readings", corpora[1], hours=10),
            *(jomni("tokenize", manifest, out, "--model", voice)
              for manifest, out in zip(manifests, codes, strict=True)),
        )),
        Stage("talk", "the language model hears, thinks and answers", (
            train(share, work, "nano_lm", 9_000,
                  "--task.data.folders", ",".join(map(str, (codes[0], codes[1], codes[1]))), "--task.data.text", facts,
                  "--task.tokenizer", words, "--task.codec", voice),
        )),
        Stage("model", "the weights as they come with the package, in half precision", (
            jomni("convert", lm, work / "nano", "--dtype", "bfloat16", "--codec-dtype", "bfloat16", "--force"),
        )),
    )  # fmt: skip
    return {stage.name: stage for stage in stages}


def run_all(stages: Iterable[Stage], parser: argparse.ArgumentParser) -> None:
    """Runs stages one after another and says how long each took; leaves the program where a command fails."""
    for stage in stages:
        print(f"== {stage.name}: {stage.about}", flush=True)
        begin = time.monotonic()
        try:
            stage.run()
        except subprocess.CalledProcessError as error:
            parser.exit(1, f"the command above ended with code {error.returncode}\n")
        print(f"== {stage.name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)


def main() -> None:
    """Runs the stages one after another."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_nano", description="Makes nano from nothing.")
    parser.add_argument("work", type=Path, help="folder for data and runs; what is there already is gone on with")
    parser.add_argument("--share", type=float, default=1.0, help="of the data and the steps (default: 1)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    run_all(recipe(args.work, args.share).values(), parser)


if __name__ == "__main__":
    main()
