"""`jomni tokenize`: a data set of conversations to cached codes, in bulk."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni.cli.arguments import Parser, add_device, add_model, whole
from jomni.cli.console import meter, say, working
from jomni.cli.model import codec_of, device, load_codec, mimi_of, open_model
from jomni.extras import require

if TYPE_CHECKING:
    import jomni
    from jomni.data.conversations.tokenize import Encoder

INTERRUPTED = 130

BLOCK = 50
"""Frames of one step, 4 s: one compiled step serves conversations of any length, in constant device memory."""

_ENCODER = ("encoder", "encoder_transformer", "downsample", "quantizer")
"""Parameters of the codec that its codes depend on."""


def tokenize_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni tokenize`."""
    parser.description = """\
Turns a data set of conversations into codes, in shards that appear whole or not at all. The same command again
continues where a run ended, also after a kill; another codec or manifest is refused."""
    parser.epilog = """\
MANIFEST is in the layout of moshi-finetune: JSON lines, one for each recording, with its path, relative to the
manifest, and its duration in seconds:
  {"path": "data/x.wav", "duration": 12.3}
Recordings are stereo, left the agent and right the user, at the codec's own rate; beside x.wav lies x.json:
  {"alignments": [["word", [start, end], "SPEAKER_MAIN"], ...]}
Everything is checked first, and every file with a problem is listed; nothing is resampled or mixed.

Example:
  jomni tokenize conversations/train.jsonl codes/train \\
      --model kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="the data set")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder for the codes, made where it is missing")
    add_model(parser)
    parser.add_argument(
        "--codebooks", metavar="K", type=whole(1),
        help="codebooks of each voice, coarse to fine (default: as many as the model uses, 8 for Mimi alone)",
    )  # fmt: skip
    parser.add_argument(
        "--shard-size", metavar="N", type=whole(1), default=256, help="conversations in each shard (default: 256)"
    )
    parser.add_argument(
        "--batch", metavar="B", type=whole(2), default=16,
        help="voices encoded at once, two of each conversation (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad recordings out, list and count them (default: refuse)"
    )
    add_device(parser)


def tokenize(options: Namespace) -> None:
    """Run `jomni tokenize`."""
    require("train", "array_record")
    from jomni.data.conversations import tokenize as bulk

    opened = open_model(options.model, codec_only=True)
    mimi_of(opened)
    codebooks = codec_of(opened, options.codebooks)[1].num_codebooks
    with device(options.device):
        with working(f"loading {options.model}"):
            checkpoint = load_codec(options.model)
        encoder = codec_encoder(checkpoint, codebooks, options.model)
        with working(f"reading {options.manifest}"):
            plan = bulk.plan_tokenization(
                options.manifest, options.output, encoder, shard_size=options.shard_size, batch=options.batch,
                bucket=BLOCK, skip_bad=options.skip_bad,
            )  # fmt: skip
        if plan.report.problems:
            say(f"{options.manifest}: {plan.report.summary()}\n{plan.report.listing()}")
        done = plan.shards - len(plan.left)
        if done:
            say(f"{options.output}: {done} of {plan.shards} shards are there already")
        with shard_by_shard("tokenize"), meter("tokenizing", plan.seconds_left) as progress:
            header = bulk.tokenize(plan, progress.done)
    if plan.left:
        say(f"tokenized {progress}")
    say(
        f"{options.output}: {header.conversations} conversations, {header.hours:.2f} hours, {header.codebooks} "
        f"codebooks of each voice at {header.frame_rate:g} Hz"
    )


def codec_encoder(checkpoint: jomni.Checkpoint, codebooks: int, name: str) -> Encoder:
    """Return a codec that encodes whole waveforms in steps, for `jomni.data.conversations.tokenize`.

    Args:
      checkpoint: has a codec of one channel.
      codebooks: number of codebooks to encode.
      name: of the model, for messages.
    """
    import jax.numpy as jnp

    import jomni
    from jomni.data.conversations.tokenize import Encoder

    config = checkpoint.configs.get("mimi")
    assert config is not None
    params = jomni.fold_codebooks(checkpoint.params["mimi"])
    mimi = jomni.Mimi(config, codebooks)
    block = BLOCK * config.frame_size

    def encode(pcm: np.ndarray) -> np.ndarray:
        state, found = mimi.init_encode_state(len(pcm), frames=BLOCK), []
        for first in range(0, pcm.shape[1], block):
            piece = pcm[:, first : first + block]
            piece = np.pad(piece, ((0, 0), (0, block - piece.shape[1])))
            state, codes = jomni.encode_step(mimi, params, state, jnp.asarray(piece[:, None]))
            found.append(codes)
        return np.concatenate([np.asarray(codes) for codes in found], 2)[:, :, : -(-pcm.shape[1] // config.frame_size)]

    made_by = codec_identity(config, checkpoint.params["mimi"])
    rates = (config.sample_rate, config.frame_rate)
    return Encoder(encode, made_by, name, *rates, codebooks, config.quantizer.bins)


def codec_identity(config: Any, params: Any) -> str:
    """Return a SHA-256 fingerprint of everything that a codec's codes depend on. Its decoder is not part of that.

    Args:
      config: the codec's configuration.
      params: the codec's parameters.
    """
    encoder = {name: params[name] for name in _ENCODER if name in params}
    return identity(repr(config), encoder, without="output_proj")  # the quantiser's decoder


def identity(settings: str, params: Any, without: str | None = None) -> str:
    """Return a SHA-256 fingerprint of settings and parameters, except parameters with `without` in their path."""
    import jax

    digest = hashlib.sha256(settings.encode())
    for path, leaf in sorted(jax.tree_util.tree_flatten_with_path(params)[0], key=lambda pair: str(pair[0])):
        name = jax.tree_util.keystr(path)
        if without is None or without not in name:
            digest.update(f"{name} {leaf.dtype} {leaf.shape}\0".encode())
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def shard_by_shard(command: str) -> Iterator[None]:
    """Turn an interrupt into a message that the finished shards stay; raises `SystemExit`."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"jomni {command}: interrupted; the same command goes on after the finished shards", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
