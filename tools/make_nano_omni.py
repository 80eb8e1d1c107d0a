"""The recipe of nano-omni: a text model, then speech input and output by the method "Any Model Can Talk".

python -m tools.make_nano_omni work                     all stages
python -m tools.make_nano_omni work --codec nano_snac   with the bundled codec: nearly two hours less
python -m tools.make_nano_omni work --share 0.001       a thousandth of the audio and steps, to check all stages

An interrupted recipe resumes. Existing data and reports are kept, so choose another folder for another share. The last
stage prints a table: after each stage, exact answers to written and spoken questions, and the word error rate of the
spoken replies.

Needs flite and espeak-ng (apt install flite espeak-ng) and `pip install -e '.[train,eval]'`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.make_nano import ROOT, Stage, jomni, once, run_all, synth, train

SUMS = "add", "subtract", "compare"
"""Kinds with the most answers, each of which is rare."""
KINDS = (*SUMS, "day", "month", "opposite", "colour", "number", "fact", "sound", "greeting")
"""Kinds of questions. Without words to repeat and long counts, the codec's vocabulary is small."""

STAGES = ("omni_stage0", "omni_stage1", "omni_stage2", "omni_stage2_voice", "omni_stage3", "omni_reading",
          "omni_stage3_again")  # fmt: skip
MUTE = STAGES[:3]
"""Stages whose model does not speak yet."""
COLUMNS = {"T1-T2": "text to text", "A1-T2": "speech to text", "A1-A2": "speech to speech", "A1-T1": "transcripts"}
"""Task whose exact answers are shown -> column of the table."""


def recipe(work: Path, share: float = 1.0, codec: str | None = None) -> dict[str, Stage]:
    """Return name -> stage, in order.

    Args:
      work: folder for data, runs and reports.
      share: fraction of the audio and of the training steps. Texts are always complete.
      codec: a SNAC of the agent's voice, a folder or a bundled model; None: train one.
    """
    work = work.absolute()
    runs = ("omni_latent", "omni_codec", "omni_decoder", "omni_decoder_again", "omni_speech_encoder", *STAGES)
    latent, codes, begun, decoder, speech_encoder, *exports = (work / run / "export" for run in runs)
    voice = decoder if codec is None else Path(codec).absolute() if Path(codec).is_dir() else codec
    heard, own = work / "utterances", work / "agent"
    pairs, tokenizer, sentences = work / "turns.tsv", work / "chat_tokenizer", work / "sentences.txt"
    parts = {"train": (32_000, 3, "train", KINDS), "valid": (400, 1, "heldout", KINDS),
             "test": (400, 2, "heldout", KINDS), "readings": (6_000, 21, "train", KINDS),
             "sums": (12_000, 31, "train", SUMS)}  # fmt: skip
    spoken = {name: work / f"{name}.parquet" for name in parts}
    said = []
    for name, (count, seed, voices, kinds) in parts.items():
        text, more = work / f"{name}.tsv", ("--readings",) if name == "readings" else ()
        said += once(text, _turns(text, max(64, round(count * share)), seed, *more, kinds=kinds))
        said += once(spoken[name], synth(share, "spoken", text, spoken[name], "--snac", voice, "--seed", seed,
                                          "--voices", voices))  # fmt: skip
    valid = "--task.valid.files", spoken["valid"]
    files = "--task.data.files", spoken["train"], *valid
    # By repetition, readings are half of the data of "reading", and sums three fifths of that of "stage 3 again".
    aloud, again = (
        ("--task.data.files", ",".join(str(spoken[name]) for name in ("train", *more)), *valid)
        for more in (["readings"] * 5, ["readings", "sums", "sums"])
    )
    shares = {"a1_a2": 2.5, "a1_t2": 0.75, "a1_t1": 0.25, "t1_a2": 1, "t1_t2": 0.5}
    spoken_by = "--task.codec", voice
    begin = {1: ("--task.backbone", exports[0], "--task.encoder", speech_encoder)} | {
        n: ("--task.init_from", exports[n - 1]) for n in range(2, len(STAGES))
    }
    stages = (
        Stage("speech encoder", "a speech encoder that classifies the phones of all voices", (
            synth(share, "utterances", heard, "--seed", 11, "--agent-share", 0.12, hours=12),
            train(share, work, "nano_omni/speech_encoder", 3_300, "--task.data.manifest", heard / "MANIFEST.jsonl"),
        )),
        Stage("voice", "a codec of the agent's voice: latents, then codebooks, then the decoder", (
            synth(share, "utterances", own, "--seed", 12, "--agent-share", 1, "--kinds", *KINDS, hours=1.5),
            train(share, work, "nano_omni/latent", 2_000, "--task.data.manifest", own / "MANIFEST.jsonl"),
            train(share, work, "nano_omni/codec", 3_500, "--task.data.manifest", own / "MANIFEST.jsonl",
                  "--task.init_from", latent, "--task.fit_codebooks", max(10, round(100 * share))),
            # A third of the spectral distance comes from levels below -60 dB, which are inaudible.
            *(train(share, work, "nano_omni/codec", steps, "--name", name,
                    "--task.data.manifest", own / "MANIFEST.jsonl",
                    "--task.init_from", start, "--task.fit_codebooks", 0, "--task.codebook_decay", 0,
                    "--task.freeze", "encoder,quantizer", "--task.ema", 0.99, "--task.optimizer.lr", 6e-4, *more)
              for name, start, steps, more in (
                  ("omni_decoder", codes, 7_700, ()),
                  ("omni_decoder_again", begun, 4_200, ("--task.spectral.floor", 1e-3)),
              )),
        )),
        Stage("text", "stage 0: a text model", (
            *once(pairs, _turns(pairs, 60_000, 0)), *once(work / "turns_valid.tsv",
                                                            _turns(work / "turns_valid.tsv", 1000, 1)),
            synth(share, "chat-tokenizer", pairs, tokenizer),
            synth(share, "sentences", sentences, "--kinds", *KINDS),
            train(share, work, "nano_omni/stage0", 2_500, "--task.data.file", pairs, "--task.valid.file",
                  work / "turns_valid.tsv", "--task.tokenizer", tokenizer),
        )),
        Stage("turns", "spoken turns in training and held-out voices", tuple(said)),
        *(
            Stage(name, about, (
                train(share, work, f"nano_omni/{config}", steps, "--name", STAGES[n], *begin[n], *data, *more),
            ))
            for n, name, about, config, steps, data, more in (
                (1, "stage 1", "alignment: the speech adapter", "stage1", 250, files, ()),
                (2, "stage 2", "adaptation: the text model answers speech", "stage2", 1_500, files, ()),
                (3, "speaking", "alignment: the audio heads, reading aloud", "stage2_voice", 800, files, ()),
                (4, "stage 3", "multimodal: everything but the speech encoder", "stage3", 3_600, files, spoken_by),
                (5, "reading", "sentences that cannot be memorised, read aloud, with context corruption",
                 "stage2_voice", 1_900, aloud,
                 (*spoken_by, "--task.freeze", "whisper/,whisper_adapter/", "--task.ema", 0.99,
                         "--task.optimizer.lr", 8e-4, "--task.data.context_corruption", 0.6)),
                (6, "stage 3 again", "rare answers, with context corruption", "stage3", 3_300, again,
                 (*spoken_by, "--task.optimizer.lr", 8e-4, "--task.data.context_corruption", 0.4,
                  *(word for task, often in shares.items() for word in (f"--task.data.shares.{task}", often)))),
            )
        ),
        Stage("reports", "evaluation of the model of every stage on held-out voices", tuple(
            command for name, export in zip(STAGES, exports, strict=True)
            for command in once(report(work, name), jomni(
                "eval", "turns", export, spoken["test"], "--codec", voice, "--sentences", sentences,
                "--pronunciations", ROOT / "tools/synth/pronunciations.dict", "--skip-bad",
                "--out", report(work, name).parent, *(("--tasks", "T1-T2", "A1-T2", "A1-T1") if name in MUTE else ()),
            ))
        )),
    )  # fmt: skip
    return {stage.name: stage for stage in stages if codec is None or stage.name != "voice"}


def report(work: Path, name: str) -> Path:
    """Return the report.json of a run."""
    return work.absolute() / "reports" / name / "report.json"


def _turns(out: Path, count: int, seed: int, *more: str, kinds: Sequence[str] = KINDS) -> tuple[str, ...]:
    return synth(1, "turns", out, "--count", count, "--seed", seed, *more, "--kinds", *kinds)


def show(work: Path, console: Console) -> None:
    """Print the table, and write it to WORK/nano_omni.json."""
    table = Table("after", *COLUMNS.values(), "WER of replies", "above the synthesiser's")
    rows: dict[str, Any] = {}
    for name in STAGES:
        held = json.loads(report(work, name).read_text())
        tasks, replies = held["tasks"], held["replies"].get("A1-A2") or {}
        rows[name] = {task: tasks.get(task, {}).get("exact") for task in COLUMNS} | {
            "wer": replies.get("model"), "above": replies.get("above"), "codec": held["codec"],
        }  # fmt: skip
        table.add_row(name, *(_share(rows[name][column]) for column in (*COLUMNS, "wer", "above")))
    (work / "nano_omni.json").write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)


def _share(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"


def main() -> None:
    """Run the stages one after another and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_nano_omni", description="Trains nano-omni from random weights."
    )
    parser.add_argument("work", type=Path, help="folder for data, runs and reports; existing ones are continued")
    parser.add_argument("--share", type=float, default=1.0, help="fraction of audio and training steps (default: 1)")
    parser.add_argument("--codec", help="a SNAC of the agent's voice, such as nano_snac, instead of training one")
    args = parser.parse_args()
    (args.work / "reports").mkdir(parents=True, exist_ok=True)
    run_all(recipe(args.work, args.share, args.codec).values(), parser)
    show(args.work, Console(width=160))


if __name__ == "__main__":
    main()
