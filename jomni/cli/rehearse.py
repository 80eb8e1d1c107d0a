"""`jomni rehearse`: cached conversations, with the agent's part as a model itself says it."""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace

import numpy as np

from jomni.cli.console import meter, say, working
from jomni.cli.model import device, split_revision
from jomni.cli.tokenize import INTERRUPTED
from jomni.errors import ConfigError, DataError
from jomni.extras import require


def rehearse(options: Namespace) -> None:
    """Runs `jomni rehearse`."""
    require("train", "array_record")
    import jax

    import jomni
    from jomni.data import Alignment, Pieces, read_header
    from jomni.data.rehearsal import Rehearser, rehearse_folder
    from jomni.generate.generator import Generator, SamplingDefaults
    from jomni.generate.rehearse import rehearse as speak
    from jomni.models.moshi import MoshiLM

    header = read_header(options.codes)
    with device(options.device):
        source, revision = split_revision(options.model)
        with working(f"loading {options.model}"):
            checkpoint = jomni.load(source, revision=revision, parts=("lm",), dtype="float32")
        config, params = checkpoint.lm, checkpoint.params.get("lm")
        if config is None:
            raise ConfigError(f"{options.model}: holds no Moshi that could speak. Give the export of its training.")
        if checkpoint.tokenizer is None:
            raise ConfigError(f"{options.model}: has no text tokenizer. Put its sentencepiece file beside the weights.")
        if header.bins != config.card or header.codebooks < max(config.dep_q, config.user_q):
            raise DataError(
                f"{options.codes}: has {header.codebooks} codebooks of {header.bins} entries, the model speaks "
                f"{config.dep_q} and hears {config.user_q} of {config.card}. Tokenize with the model's own codec."
            )
        generator = Generator(MoshiLM(config), defaults=SamplingDefaults.from_kyutai(checkpoint.generation))
        alignment = Alignment(
            header.frame_rate, text_padding=config.existing_text_padding_id,
            end_of_text_padding=config.existing_text_end_padding_id, keep_and_shift=options.keep_and_shift,
            audio_delay=options.audio_delay, lead=options.text_lead,
        )  # fmt: skip
        digest = hashlib.sha256(f"{config} {generator.defaults} {alignment}".encode())
        for path, leaf in sorted(jax.tree_util.tree_flatten_with_path(params)[0], key=lambda pair: str(pair[0])):
            digest.update(f"{jax.tree_util.keystr(path)}\0".encode() + np.asarray(leaf).tobytes())
        most = max((len(shard.frames) for shard in header.shards or ()), default=1)
        rehearser = Rehearser(
            lambda text, user, seed: speak(generator, params, text, user, seed), digest.hexdigest(),
            Pieces(checkpoint.tokenizer), alignment, min(options.batch, most),
        )  # fmt: skip
        try:
            with meter("rehearsing", header.hours * 3600) as progress:
                rehearse_folder(options.codes, options.output, rehearser, options.seed, progress.done)
        except KeyboardInterrupt:
            print("jomni rehearse: interrupted; the same command goes on after the finished shards", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
    say(f"{options.output}: {header.conversations} conversations, {header.hours:.2f} hours, rehearsed")
