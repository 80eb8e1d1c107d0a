"""`jomni self-rollout`: cached conversations, with the agent's codes sampled from a model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from jomni.cli.arguments import Parser, add_device, add_model, add_seed, number, whole
from jomni.cli.console import meter, say, working
from jomni.cli.model import device, split_revision
from jomni.cli.tokenize import identity, shard_by_shard
from jomni.errors import ConfigError, DataError
from jomni.extras import require


def self_rollout_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni self-rollout`."""
    parser.description = """\
Copies a folder of codes and adds, beside the agent's recorded codes, codes that a model samples itself. The text and
the user's codes are given. Training with task.data.own_share mixes both, so that the model is trained on the
audio context that it has in a conversation: its own. (A recorded voice reveals by its intonation how much is still to
be said. A model that depends on that stops too early or too late.) The same command again continues where a run
ended, also after a kill."""
    parser.epilog = """\
--text-lead, --audio-delay and --keep-and-shift place the text in time. Give them the values that the fields of the same
names of task.data have in the training.

Example:
  jomni self-rollout data/codes data/self_rollout \\
      --model runs/nano_lm/export --text-lead 2 --keep-and-shift"""
    parser.add_argument("codes", metavar="CODES", type=Path, help="made by jomni tokenize")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write, made where it is missing")
    add_model(parser)
    parser.add_argument(
        "--text-lead", metavar="N", type=whole(0), default=0, help="words by which the text is ahead (default: 0)"
    )
    parser.add_argument(
        "--audio-delay", metavar="S", type=number(-10, 10), default=0.0,
        help="seconds by which the text is ahead of the audio (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-and-shift",
        action="store_true",
        help="queue a word's tokens behind those of words before it (default: cut those off)",
    )
    parser.add_argument(
        "--batch", metavar="B", type=whole(1), default=32, help="conversations sampled at once (default: 32)"
    )
    add_seed(parser)
    add_device(parser)


def self_rollout(options: Namespace) -> None:
    """Run `jomni self-rollout`."""
    require("train", "array_record")
    import jomni
    from jomni.data import Pieces, read_header
    from jomni.data.conversations.self_rollout import RolloutModel, self_rollout_folder
    from jomni.models.moshi import MoshiLM
    from jomni.models.moshi.generate import Generator, SamplingDefaults
    from jomni.models.moshi.self_rollout import self_rollout as speak
    from jomni.train.tasks.moshi_data import ConversationData

    header = read_header(options.codes)
    with device(options.device):
        source, revision = split_revision(options.model)
        with working(f"loading {options.model}"):
            checkpoint = jomni.load(source, revision=revision, components=("lm",), dtype="float32")
        config, params = checkpoint.configs.get("lm"), checkpoint.params.get("lm")
        if config is None:
            raise ConfigError(f"{options.model}: holds no Moshi. Give the export of a training.")
        if checkpoint.tokenizer is None:
            raise ConfigError(f"{options.model}: has no text tokenizer. Put its sentencepiece file beside the weights.")
        if header.bins != config.card or header.codebooks < max(config.dep_q, config.user_q):
            raise DataError(
                f"{options.codes}: has {header.codebooks} codebooks of {header.bins} entries, but the "
                f"model takes {config.dep_q} of the agent and {config.user_q} of the user, of {config.card} entries. "
                "Tokenize with the model's own codec."
            )
        generator = Generator(MoshiLM(config), defaults=SamplingDefaults.from_kyutai(checkpoint.generation))
        data = ConversationData(
            (str(options.codes),), text_lead=options.text_lead, audio_delay=options.audio_delay,
            keep_and_shift=options.keep_and_shift,
        )  # fmt: skip
        alignment = data.alignment(config)
        most = max((len(shard.frames) for shard in header.shards or ()), default=1)
        rollout_model = RolloutModel(
            lambda text, user, seed: speak(generator, params, text, user, seed),
            identity(f"{config} {generator.defaults} {alignment}", params), Pieces(checkpoint.tokenizer), alignment,
            min(options.batch, most),
        )  # fmt: skip
        with shard_by_shard("self-rollout"), meter("self-rollout", header.hours * 3600) as progress:
            self_rollout_folder(options.codes, options.output, rollout_model, options.seed, progress.done)
    say(f"{options.output}: {header.conversations} conversations, {header.hours:.2f} hours, with sampled codes")
