"""Self-rollout of cached conversations: adds the agent's codes as a model samples them for the given text and user.

The model is passed in as a function. A killed run keeps its finished shards, as in
`jomni.data.conversations.tokenize`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt16

from jomni.data.conversations.alignment import Alignment, Pieces, align, lead_words
from jomni.data.conversations.codes import Conversation, Header, read_header, write_header
from jomni.data.conversations.tokenize import finishing, prepare_folder, read_shard, write_shard

Say = Callable[
    [Sequence[Int[np.ndarray, "N"]], Sequence[UInt16[np.ndarray, "U N"]], int], list[UInt16[np.ndarray, "K N"]]
]
"""Maps the text tokens and the user's codes of each conversation, and a seed, to the agent's codes."""


@dataclasses.dataclass(frozen=True)
class RolloutModel:
    """The model that samples the agent's codes."""

    say: Say
    identity: str  # of its weights and its sampling options
    pieces: Pieces  # its text tokenizer
    alignment: Alignment  # alignment of the words, as in the training that uses the codes
    batch: int = 32  # conversations sampled together


def self_rollout_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    rollout_model: RolloutModel,
    seed: int = 0,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Header:
    """Copy a folder of codes, and add the codes that the model samples for the agent.

    The same call continues an interrupted run after its finished shards.

    Args:
      folder: made by `jomni tokenize`, or an earlier output of this function.
      out: folder to write.
      rollout_model: the model.
      seed: seed of its sampling.
      progress: called with the seconds of conversation processed since the last call.

    Returns:
      The header of the complete folder.

    Raises:
      DataError: `folder` is not a complete folder of codes, or `out` holds other codes.
      OutputError: `out` cannot be written, or holds other files.
    """
    folder, out = Path(folder), Path(out)
    whole = dataclasses.replace(read_header(folder), own=f"{rollout_model.identity} {seed}")
    prepare_folder(out, dataclasses.replace(whole, shards=None))
    with finishing(out):
        for number, shard in enumerate(whole.shards or ()):
            if (out / shard.name).exists():
                progress(sum(shard.frames) / whole.frame_rate)
                continue
            held = list(read_shard(folder / shard.name))
            write_shard(out / shard.name, _self_rollout(held, rollout_model, (seed, number), progress))
        write_header(out, whole)
    return whole


def _self_rollout(
    conversations: Sequence[Conversation],
    rollout_model: RolloutModel,
    seed: tuple[int, int],
    progress: Callable[[float], None],
) -> list[Conversation]:
    """Return the conversations in their order. Those of similar length are sampled together."""
    found: dict[int, Conversation] = {}
    order = sorted(range(len(conversations)), key=lambda index: conversations[index].frames)
    for first in range(0, len(order), rollout_model.batch):
        chosen = order[first : first + rollout_model.batch]
        held = [conversations[index] for index in chosen]
        held += held[-1:] * (rollout_model.batch - len(held))  # repeat the last one: one batch size is compiled once
        text = [_text(conversation, rollout_model) for conversation in held]
        start = int(np.random.SeedSequence((*seed, first)).generate_state(1)[0]) >> 1
        codes = rollout_model.say(text, [conversation.user for conversation in held], start)
        for index, own in zip(chosen, codes, strict=False):  # without the repeated ones
            kept = conversations[index]
            rest = kept.agent[len(own) :]  # codebooks that the model does not sample
            found[index] = dataclasses.replace(kept, own=np.concatenate([own, rest]))
        progress(sum(conversations[index].frames for index in chosen) / rollout_model.alignment.frame_rate)
    return [found[index] for index in range(len(conversations))]


def _text(conversation: Conversation, rollout_model: RolloutModel) -> Int[np.ndarray, "N"]:
    words = lead_words(conversation.words, rollout_model.alignment)
    return align(words, conversation.frames, rollout_model.pieces, rollout_model.alignment)
