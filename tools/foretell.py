"""Write what a language model would say beside recorded conversations, for its codec's decoder to learn from.

    python -m tools.foretell data/train/MANIFEST.jsonl data/codes --model runs/nano_lm/export --limit 800

makes `x.said.npy` beside each `x.wav`: the agent's codes of each frame as the model draws them after the true past,
uint16 [K, N]; and SAID.jsonl beside the manifest, which lists the recordings that have one. `configs/nano_decoder.py`
trains the decoder on them. Files that are there already stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from rich.progress import track

import jomni
from jomni.data.alignment import Alignment, Pieces, align, lead_words
from jomni.data.codes import Conversation, read_header
from jomni.data.tokenize import bucketed, read_shard
from jomni.generate.foretell import foretell
from jomni.models.moshi import MoshiLM
from jomni.models.moshi.config import MoshiConfig

SUFFIX, LIST = ".said.npy", "SAID.jsonl"
BUCKET = 128
"""Frames: lengths are rounded up to a multiple of it, so that few lengths are compiled."""


def main() -> None:
    """Foretells conversation after conversation."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.foretell", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="of the conversations")
    parser.add_argument("codes", type=Path, help="their codes, made by 'jomni tokenize'")
    parser.add_argument("--model", required=True, help="the language model")
    parser.add_argument("--lead", type=int, default=2, help="words by which its text is ahead, as in its training")
    parser.add_argument("--temperature", type=float, help="of the codes (default: the model's own)")
    parser.add_argument("--limit", type=int, default=1 << 30, help="conversations that are wanted (default: all)")
    parser.add_argument("--batch", type=int, default=8, help="conversations at once")
    args = parser.parse_args()
    checkpoint = jomni.load(args.model, parts=("lm",), dtype="float32")
    if checkpoint.lm is None or checkpoint.tokenizer is None:
        parser.exit(1, f"{args.model}: is no language model with a tokenizer\n")
    lm, params = MoshiLM(checkpoint.lm), checkpoint.params["lm"]
    temperature = checkpoint.generation.get("temp", 0.8) if args.temperature is None else args.temperature
    header, pieces = read_header(args.codes), Pieces(checkpoint.tokenizer)
    alignment = Alignment(header.frame_rate, keep_and_shift=True, lead=args.lead)
    folder, left = args.manifest.parent, args.limit
    for shard in header.shards or ():
        held = list(read_shard(args.codes / shard.name))[:left]
        left -= len(held)
        missing = sorted((c for c in held if not _path(folder, c).exists()), key=lambda c: c.frames)
        batches = [missing[i : i + args.batch] for i in range(0, len(missing), args.batch)]
        for rows in track(batches, shard.name):
            codes = _streams(rows, args.batch, checkpoint.lm, pieces, alignment)
            said = np.asarray(foretell(lm, params, jnp.asarray(codes), 0, temperature))
            for row, conversation in zip(said, rows, strict=False):
                _save(_path(folder, conversation), row[:, : conversation.frames])
    lines = [line for line in args.manifest.read_text(encoding="utf-8").splitlines() if line.strip()]
    done = [line for line in lines if (folder / json.loads(line)["path"]).with_suffix(SUFFIX).exists()]
    (folder / LIST).write_text("\n".join([*done, ""]), encoding="utf-8")
    print(f"{len(done)} conversations in {folder / LIST}")


def _path(folder: Path, conversation: Conversation) -> Path:
    return (folder / conversation.name).with_suffix(SUFFIX)


def _streams(
    rows: Sequence[Conversation], batch: int, config: MoshiConfig, pieces: Pieces, alignment: Alignment
) -> Int[np.ndarray, "B K T"]:
    """Text, the agent's and the user's codes, -1 where there is nothing."""
    width = bucketed(max(row.frames for row in rows), BUCKET)
    codes = np.full((batch, 1 + config.n_q, width), -1, np.int32)
    for streams, row in zip(codes, rows, strict=False):
        text, agent, user = np.split(streams[:, : row.frames], [1, 1 + config.dep_q])  # views
        text[0] = align(lead_words(row.words, alignment), row.frames, pieces, alignment)
        agent[:], user[:] = row.agent[: config.dep_q], row.user[: config.user_q]
    return codes


def _save(path: Path, codes: Int[np.ndarray, "K N"]) -> None:
    """Writes the codes, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, codes.astype(np.uint16))
    os.replace(part, path)


if __name__ == "__main__":
    main()
