"""`jomni self-rollout`: cached conversations, with the agent's part as a model itself says it."""

from __future__ import annotations

from argparse import Namespace

from jomni.cli.console import meter, say, working
from jomni.cli.model import device, split_revision
from jomni.cli.tokenize import identity, shard_by_shard
from jomni.errors import ConfigError, DataError
from jomni.extras import require


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
            raise ConfigError(f"{options.model}: holds no Moshi that could speak. Give the export of its training.")
        if checkpoint.tokenizer is None:
            raise ConfigError(f"{options.model}: has no text tokenizer. Put its sentencepiece file beside the weights.")
        if header.bins != config.card or header.codebooks < max(config.dep_q, config.user_q):
            raise DataError(
                f"{options.codes}: has {header.codebooks} codebooks of {header.bins} entries, the model speaks "
                f"{config.dep_q} and hears {config.user_q} of {config.card}. Tokenize with the model's own codec."
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
    say(f"{options.output}: {header.conversations} conversations, {header.hours:.2f} hours, rolled_out")
