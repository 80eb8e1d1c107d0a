"""Conversations with Mini-Omni in slots, in tokens: questions, answers step by step, stop, rewind and resume.

A slot's cache is kept between turns, so a turn feeds only what is new. A question may be asked in a slot at any time,
while other slots answer. Axes: B slot, A audio streams.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jomni.errors import PromptError
from jomni.models.decoder.generate import TextSampling
from jomni.models.mini_omni.generate import OmniBlock, OmniControls, OmniGenerator, OmniState, place
from jomni.models.mini_omni.prompt import OmniPrompt, Part, close, joined, opening, text_and_speech, written
from jomni.models.mini_omni.streams import Task

Column = Int[np.ndarray, "A+1"]
"""The tokens of one step of an answer, text last."""


@dataclasses.dataclass
class OmniSlot:
    """Progress of a conversation."""

    held: int = 0  # steps in the cache
    given: list[Column] = dataclasses.field(default_factory=list)  # of the answer; all but the last are in the cache
    speaks: bool = False
    active: bool = False  # an answer is in progress
    complete: bool = False  # the last answer ended by itself
    fresh: bool = False  # the first tokens are sampled but not yet returned


class OmniSession:
    """Conversations in slots.

    Args:
      generator: the step functions.
      params: from `generator.prepare`.
      slots: conversations.
      seed: of slot 0's sampling, slot i has seed + i; or one per slot.
      sampling: None: greedy.
    """

    def __init__(
        self, generator: OmniGenerator, params: Any, slots: int = 1, seed: int | Sequence[int] = 0,
        sampling: TextSampling | None = None,
    ) -> None:  # fmt: skip
        self.generator = generator
        self.params = params
        self.slots = [OmniSlot() for _ in range(slots)]
        self._state: OmniState = generator.init_state(slots, seed)
        self._controls: OmniControls = generator.controls(slots, sampling)

    def ask(
        self, questions: Sequence[Sequence[Part] | None], tasks: Task | Sequence[Task],
        before: Sequence[Sequence[int] | None] | None = None,
    ) -> None:  # fmt: skip
        """Feed a question in each slot and begin its answer. This stops an answer in progress there.

        Args:
          questions: the parts of each slot's question; None leaves a slot unchanged.
          tasks: the task, of all or of each slot. Its input (A1, T1) is that of the parts.
          before: tokens of a text before the question that gets no answer (a system prompt).

        Raises:
          PromptError: a question is empty, does not fit the context, or needs what this session lacks. Nothing
            has been fed then.
        """
        if len(questions) != len(self.slots):
            raise ValueError(f"{len(questions)} questions for {len(self.slots)} slots")
        tasks = [tasks] * len(questions) if isinstance(tasks, Task) else tasks
        before = before or [None] * len(questions)
        prompts = [
            None if question is None else self._prompt(slot, question, task, text)
            for slot, question, task, text in zip(self.slots, questions, tasks, before, strict=True)
        ]
        for slot, prompt, task in zip(self.slots, prompts, tasks, strict=True):
            if prompt is not None:
                slot.given, slot.speaks = [], task.speaks
                slot.active, slot.complete, slot.fresh = True, False, True
        self._controls = self._controls._replace(speaks=jnp.array([slot.speaks for slot in self.slots]))
        self._read(prompts)

    def step(self) -> list[Column | None]:
        """Return the next tokens of every answer in progress; None for other slots.

        An answer ends with the step in which its last audio stream ends (for text alone: the text stream), or when the
        context is full; `slots[i].active` is False from then on.
        """
        going = np.array([slot.active and not slot.fresh for slot in self.slots])
        if going.any():
            controls = self._controls._replace(active=jnp.array(going))
            self._state = self.generator.decode_step(self.params, self._state, controls)
        tokens, vocabulary = np.array(self._state.tokens), self.generator.config.vocabulary  # a copy: state is donated
        out: list[Column | None] = []
        for slot, moved, column in zip(self.slots, going, tokens, strict=True):
            out.append(column if slot.active else None)
            if not slot.active:
                continue
            slot.held += int(moved)
            slot.given.append(column)
            slot.fresh = False
            end = column[-2] == vocabulary.end_of_audio if slot.speaks else column[-1] == vocabulary.end_of_text
            slot.complete = bool(end)
            slot.active = not end and slot.held < self.generator.context
        return out

    def stop(self, slot: int, keep: int | None = None) -> None:
        """Stop an answer.

        Args:
          slot: its number.
          keep: number of steps of the answer to keep, at least 1; the others are removed from the conversation. None:
            all that were returned.

        Raises:
          PromptError: so many steps cannot be removed, because a sliding layer has dropped the steps before them.
        """
        s = self.slots[slot]
        s.active = s.fresh = False
        if keep is None or keep >= len(s.given):
            return
        keep = max(keep, 1)
        held = s.held - (len(s.given) - keep)
        if not self.generator.can_rewind(s.held, held):
            raise PromptError(
                f"the last {s.held - held} steps of the answer cannot be removed: the model's sliding layers have "
                f"dropped the steps before them. Remove {self.generator.blocks[-1]} at most."
            )
        del s.given[keep:]
        s.held, s.complete = held, False
        self._state = place(self._state, jnp.array([x.held for x in self.slots], jnp.int32))
        self._state = self._state._replace(
            tokens=self._state.tokens.at[slot].set(s.given[-1]),
            ended=self._state.ended.at[slot].set(self._text_ended(s)),
        )

    def resume(self, slot: int) -> None:
        """Continue a stopped answer from the last step that was kept.

        Raises:
          PromptError: there is none: nothing was asked, it ended by itself, or the context is full.
        """
        s = self.slots[slot]
        if s.complete or not s.given or s.held >= self.generator.context:
            raise PromptError(f"slot {slot} has no answer to resume: ask something.")
        s.active = True

    def forget(self, slot: int) -> None:
        """Restart a slot's conversation with an empty history."""
        self.slots[slot] = OmniSlot()
        self._state = place(self._state, jnp.array([x.held for x in self.slots], jnp.int32))

    def _text_ended(self, slot: OmniSlot) -> bool:
        return any(column[-1] == self.generator.config.vocabulary.end_of_text for column in slot.given)

    def _prompt(self, slot: OmniSlot, parts: Sequence[Part], task: Task, before: Sequence[int] | None) -> OmniPrompt:
        """Return what to feed: the close of the last answer, the text before the question, it, the opening."""
        g, config = self.generator, self.generator.config
        if task.speaks and g.voice == "text_only":
            raise PromptError(
                f"task {task.value} needs audio output, which voice 'text_only' does not give. Choose another voice."
            )
        prompts = [] if before is None else [text_and_speech(config, [before])]
        prompts += [text_and_speech(config, parts), opening(config, task)]
        if slot.given:
            tail = [slot.given[-1][:, None]]
            if not slot.complete:
                tail.append(close(config.vocabulary, slot.speaks, self._text_ended(slot)))
            prompts.insert(0, written(config, np.concatenate(tail, 1)))
        prompt = joined(prompts)
        steps = prompt.tokens.shape[1]
        if slot.held + steps >= g.context:
            raise PromptError(
                f"the question takes {steps} steps and the conversation so far {slot.held}, which leaves no room for "
                f"an answer: the context is {g.context} steps. Ask for less, start a new conversation, or set a longer "
                f"context (the model takes up to {config.decoder.max_positions})."
            )
        return prompt

    def _read(self, prompts: Sequence[OmniPrompt | None]) -> None:
        nothing = written(self.generator.config, np.zeros((self.generator.config.vocabulary.streams + 1, 0), np.int32))
        rest = [nothing if prompt is None else prompt for prompt in prompts]
        while longest := max(len(prompt.is_speech) for prompt in rest):
            size = self._block(longest)
            now = [prompt.cut(slice(size)) for prompt in rest]
            lengths = np.array([len(prompt.is_speech) for prompt in now], np.int32)
            together = zip((1, 0, 0, 0), zip(*now, strict=True), strict=True)  # with the axis of time of each leaf
            block = OmniBlock(*(jnp.asarray(np.stack([_padded(x, size, t) for x in leaves])) for t, leaves in together))
            self._state = self.generator.prefill(self.params, self._state, block, jnp.asarray(lengths), self._controls)
            for slot, taken in zip(self.slots, lengths.tolist(), strict=True):
                slot.held += taken
            rest = [prompt.cut(slice(size, None)) for prompt in rest]

    def _block(self, longest: int) -> int:
        """Return the smallest block that holds all that is left; if a quarter of it would be padding, half of it."""
        blocks = self.generator.blocks
        size = next((block for block in blocks if block >= longest), blocks[-1])
        return size // 2 if size > blocks[0] and 4 * longest <= 3 * size else size


def _padded(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    width = [(0, 0)] * x.ndim
    width[axis] = (0, size - x.shape[axis])
    return np.pad(x, width)
