"""The recipe of `nano`: stages of commands, from data to the exported model. Interrupted commands resume.

python -m tools.make_nano work                all stages
python -m tools.make_nano work --share 0.01   a hundredth of the data and steps, to check all stages

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
    """A named sequence of commands."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]

    def run(self) -> None:
        """Run the commands.

        Raises:
          subprocess.CalledProcessError: a command fails.
        """
        for command in self.commands:
            print("+", shlex.join(command).replace(sys.executable, "python"), flush=True)
            subprocess.run(command, cwd=ROOT, check=True)


def synth(share: float, *words: object, hours: float = 0.0) -> tuple[str, ...]:
    """Return a command of tools.synth, with the given fraction of `hours`."""
    length = ("--hours", f"{max(0.02, hours * share):.3g}") if hours else ()
    return sys.executable, "-m", "tools.synth", *map(str, words), *length


def jomni(*words: object) -> tuple[str, ...]:
    """Return a jomni command."""
    return sys.executable, "-m", "jomni", *map(str, words)


def self_rollout(codes: object, out: object, model: Path) -> tuple[str, ...]:
    """Return the command that generates the agent's codes with a model, with text two words ahead."""
    return jomni("self-rollout", codes, out, "--model", model, "--text-lead", 2, "--keep-and-shift")


def train(share: float, work: Path, config: str, steps: int, *words: object) -> tuple[str, ...]:
    """Return a training command, with the given fraction of `steps`."""
    return jomni("train", config, "--out", work, "--steps", max(2, round(steps * share)), *words)


def mean(out: Path, *models: Path) -> tuple[str, ...]:
    """Return the command that averages the weights of models."""
    return sys.executable, "-m", "tools.average", str(out), *map(str, models), "--force"


def once(made: Path, *commands: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the commands, or none if `made` exists."""
    return () if made.exists() else commands


def recipe(work: Path, share: float = 1.0) -> dict[str, Stage]:
    """Return name -> stage, in order.

    Args:
      work: folder for data and runs.
      share: fraction of the hours of data and of the training steps.
    """
    work = work.absolute()
    runs = ("nano_codec", "nano_voice", "nano_decoder", "nano_lm", "nano_self_rollout", "nano_again", "nano_anew")
    codec, voice, decoder, lm, talker, again, anew = (work / run / "export" for run in runs)
    words, facts = work / "words.model", work / "facts.txt"
    corpora = tuple(work / name for name in ("conversations", "counting", "readings", "facts_read"))
    manifests = conversations, *_ = [corpus / "MANIFEST.jsonl" for corpus in corpora]
    codes = [work / f"{corpus.name}.codes" for corpus in corpora]
    rolled_out = [work / f"{corpus.name}.self_rollout" for corpus in corpora]
    fresh = [work / name for name in ("conversations_again", "counting_again", "facts_again")]
    rolled_out_again = ",".join([*(f"{corpus}.self_rollout" for corpus in fresh), str(codes[2])])
    before, last = work / "nano_mean", work / "nano_last"
    data = "--task.data.text", facts, "--task.tokenizer", words, "--task.codec", decoder
    stages = (
        Stage("codec", "the codec's encoder and semantic codebooks, trained to classify phones of all voices", (
            synth(share, "utterances", work / "utterances", "--seed", 11, "--agent-share", 0.12, hours=24),
            train(share, work, "nano/codec", 11_000, "--task.data.manifest", work / "utterances/MANIFEST.jsonl"),
        )),
        Stage("voice", "conversations; the codec's acoustic codebooks and decoder, on the agent's channel", (
            synth(share, "conversations", corpora[0], hours=60),
            train(share, work, "nano/voice", 12_000, "--task.data.manifest", conversations, "--task.init_from", codec),
        )),
        Stage("decoder", "the codec's decoder, with frozen codes", (
            train(share, work, "nano/voice", 24_000, "--name", "nano_decoder", "--task.data.manifest", conversations,
                  "--task.init_from", voice, "--task.freeze", "encoder,downsample,quantizer",
                  "--task.optimizer.lr", 6e-4, "--task.optimizer.final_lr", 1e-5),
        )),
        Stage("codes", "counting conversations and readings; codes of all data", (
            synth(share, "tokenizer", words),
            synth(share, "facts", facts),
            synth(share, "conversations", corpora[1], "--seed", 1, "--more", "count=16", hours=9),
            synth(share, "readings", corpora[2], hours=10),
            synth(share, "readings", corpora[3], "--seed", 1, "--facts", hours=6),
            *(jomni("tokenize", manifest, out, "--model", voice)
              for manifest, out in zip(manifests, codes, strict=True)),
        )),
        Stage("talk", "the language model", (
            train(share, work, "nano/lm", 9_000,
                  "--task.data.folders", ",".join(map(str, (codes[0], codes[2], codes[2]))), *data),
        )),
        Stage("self-rollout", "the language model on its own rollouts", (
            *(self_rollout(codes[n], rolled_out[n], lm) for n in (0, 1, 3)),
            train(share, work, "nano/self_rollout", 3_700, "--task.init_from", lm, "--task.data.folders",
                  ",".join(map(str, (rolled_out[0], rolled_out[1], rolled_out[3], rolled_out[3], codes[2]))), *data),
        )),
        Stage("again", "self-rollout on new data; the mean of the weights before and after", (
            synth(share, "conversations", fresh[0], "--seed", 2, hours=22),
            synth(share, "conversations", fresh[1], "--seed", 3, "--more", "count=12", "--far", 0.9, hours=9),
            synth(share, "readings", fresh[2], "--seed", 2, "--facts", hours=4),
            *(jomni("tokenize", corpus / "MANIFEST.jsonl", f"{corpus}.codes", "--model", voice) for corpus in fresh),
            *(self_rollout(f"{corpus}.codes", f"{corpus}.self_rollout", talker) for corpus in fresh),
            train(share, work, "nano/self_rollout", 2_800, "--name", "nano_again", "--task.init_from", talker,
                  "--task.data.folders", rolled_out_again, *data),
            mean(before, talker, again),
        )),
        Stage("anew", "self-rollout after shrink-and-perturb (50 %); the mean of the weights before and after", (
            train(share, work, "nano/self_rollout", 4_400, "--name", "nano_anew", "--task.init_from", before,
                  "--task.shrink_and_perturb", 0.5, "--task.optimizer.lr", 1.4e-3,
                  "--task.data.folders", rolled_out_again, *data),
            mean(last, before, anew),
        )),
        Stage("model", "the exported model in bfloat16", (
            jomni("convert", last, work / "nano", "--dtype", "bfloat16", "--codec-dtype", "bfloat16",
                  "--force"),
        )),
    )  # fmt: skip
    return {stage.name: stage for stage in stages}


def run_all(stages: Iterable[Stage], parser: argparse.ArgumentParser) -> None:
    """Run stages one after another and print how long each took; exit if a command fails."""
    for stage in stages:
        print(f"== {stage.name}: {stage.about}", flush=True)
        begin = time.monotonic()
        try:
            stage.run()
        except subprocess.CalledProcessError as error:
            parser.exit(1, f"the command above ended with code {error.returncode}\n")
        print(f"== {stage.name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)


def main() -> None:
    """Run the stages one after another."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_nano", description="Trains nano from random weights.")
    parser.add_argument("work", type=Path, help="folder for data and runs; existing ones are continued")
    parser.add_argument("--share", type=float, default=1.0, help="fraction of data and training steps (default: 1)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    run_all(recipe(args.work, args.share).values(), parser)


if __name__ == "__main__":
    main()
