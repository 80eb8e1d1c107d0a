"""Mini-Omni's prompts as steps: questions of text and speech, the opening and the close of an answer.

A question of one text or one recording, and its opening, are the original's prompts (inference.py). In addition, a
question may have several parts, and a text without an answer (a system prompt) may precede it.

Axes: A audio streams, T steps, F frames of speech, W width of speech features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jomni.errors import PromptError
from jomni.models.mini_omni import MiniOmniConfig, Vocabulary
from jomni.models.mini_omni.streams import Task, opening_streams, question_streams
from jomni.printing import short_repr

Part = Sequence[int] | Float[np.ndarray, "F W"]
"""Part of a question: text tokens, or the speech encoder's output."""


class OmniPrompt(NamedTuple):
    """Steps of one conversation to feed."""

    tokens: Int[np.ndarray, "A+1 T"]
    features: Float[np.ndarray, "T W"]
    is_speech: Bool[np.ndarray, "T"]  # True where features replace the audio streams
    own: Bool[np.ndarray, "T"]  # steps of an answer

    def __repr__(self) -> str:
        return short_repr(self)

    def cut(self, steps: slice) -> OmniPrompt:
        """Return a slice of the steps."""
        return OmniPrompt(self.tokens[:, steps], self.features[steps], self.is_speech[steps], self.own[steps])


def text_and_speech(config: MiniOmniConfig, parts: Sequence[Part]) -> OmniPrompt:
    """Return the steps of a question of one or several parts, without the opening of the answer.

    Raises:
      PromptError: there is no part, a part is empty, or a token or the features' width is not the model's.
    """
    if not parts:
        raise PromptError("nothing was asked. Give a text or a recording.")
    return joined([_part(config, part) for part in parts])


def opening(config: MiniOmniConfig, task: Task) -> OmniPrompt:
    """Return the step that opens an answer; the tokens sampled after it are the answer's first."""
    return written(config, opening_streams(task, config.vocabulary))


def close(vocabulary: Vocabulary, spoken: bool, text_ended: bool) -> Int[np.ndarray, "A+1 1"]:
    """Return the step that closes a stopped answer: the end tokens that its streams have not had."""
    audio = vocabulary.end_of_audio if spoken else vocabulary.pad_audio
    text = vocabulary.pad_text if text_ended else vocabulary.end_of_text
    return np.array([[audio]] * vocabulary.streams + [[text]], np.int32)


def written(config: MiniOmniConfig, tokens: Int[np.ndarray, "A+1 T"]) -> OmniPrompt:
    """Return a prompt of an answer's steps."""
    steps = tokens.shape[1]
    features = np.zeros((steps, config.feature_dim), np.float32)
    return OmniPrompt(tokens, features, np.zeros(steps, bool), np.ones(steps, bool))


def joined(prompts: Sequence[OmniPrompt]) -> OmniPrompt:
    """Concatenate prompts in time."""
    tokens = np.concatenate([p.tokens for p in prompts], 1)
    return OmniPrompt(tokens, *(np.concatenate([p[i] for p in prompts]) for i in (1, 2, 3)))


def _part(config: MiniOmniConfig, part: Part) -> OmniPrompt:
    v = config.vocabulary
    if not len(part):
        raise PromptError("a part of the question is empty. Give some text, or a recording with sound in it.")
    speech = part if isinstance(part, np.ndarray) and part.ndim == 2 else None
    if speech is not None:
        if speech.shape[1] != config.feature_dim:
            raise PromptError(
                f"speech features are {speech.shape[1]} wide, the model's adapter takes {config.feature_dim}. "
                "Give it the speech encoder that it was trained with."
            )
        tokens = question_streams(v, len(speech))
    else:
        text = [int(token) for token in part]
        if not all(0 <= token < v.text_size for token in text):
            raise PromptError(
                f"a text token is not one of the model's {v.text_size}: {max(text)}. Is the tokenizer this model's own?"
            )
        tokens = question_streams(v, text)
    steps = tokens.shape[1]
    is_speech, features = np.zeros(steps, bool), np.zeros((steps, config.feature_dim), np.float32)
    if speech is not None:
        is_speech[1:-1] = True
        features[1:-1] = speech
    return OmniPrompt(tokens, features, is_speech, np.zeros(steps, bool))
