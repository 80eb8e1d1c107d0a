"""One step of the language model: delays, sampling, steering, guidance (moshi/models/lm.py::LMGen).

Axes: B batch, G guidance branch (1, or 2: guided and unguided), K streams, C length of the delay line, Q agent's
codebooks, U user's codebooks, V vocabulary, D model width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from jomni.errors import ConfigError
from jomni.generation.controls import UNFORCED, Controls
from jomni.generation.sampling import Sampler, batch_seeds, row_keys, sample
from jomni.models.moshi.conditioning import prepare_conditions
from jomni.models.moshi.model import ZERO, Conditions, MoshiLM
from jomni.nn.streaming import State, reset
from jomni.nn.transformer import TransformerState
from jomni.printing import short_repr

Params = Any


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: the model runs twice, and logits are unguided + coefficient * (guided - unguided).

    By default the two branches differ in their conditions. With `masked_prefix` the unguided branch does not see the
    first `Controls.masked_until` frames; with `no_text` it does not see the text, and the text logits are left alone.
    """

    masked_prefix: bool = False
    no_text: bool = False


@dataclasses.dataclass(frozen=True)
class SamplingDefaults:
    """Default sampling settings: the checkpoint's `lm_gen_config`, else the original's defaults."""

    temperature: float = 0.8
    text_temperature: float = 0.7
    top_k: int = 250
    text_top_k: int = 25
    guidance: float = 1.0

    @classmethod
    def from_kyutai(cls, raw: Mapping[str, Any]) -> SamplingDefaults:
        """Read an `lm_gen_config`.

        Raises:
          ConfigError: it has an option that is not known.
        """
        names = {"temp": "temperature", "temp_text": "text_temperature", "top_k": "top_k", "top_k_text": "text_top_k",
                 "cfg_coef": "guidance"}  # fmt: skip
        unknown = set(raw) - set(names) - {"use_sampling", "check", "support_out_of_sync"}
        if unknown:
            raise ConfigError(f"'lm_gen_config' has an unknown option {sorted(unknown)}; known are {sorted(names)}")
        defaults = cls(**{names[key]: value for key, value in raw.items() if key in names})
        if not raw.get("use_sampling", True):
            defaults = dataclasses.replace(defaults, temperature=0.0, text_temperature=0.0)
        return defaults


class GeneratorState(NamedTuple):
    """Streaming state of the language model."""

    offset: Int[Array, "B"]  # steps taken since the last reset
    seed: UInt32[Array, "B"]
    tokens: Int[Array, "B K C"]  # delay line: the token of step s is at index s modulo C
    transformer: TransformerState  # leaves [B, ...], with guidance [B, 2, ...]
    conditions: Conditions  # likewise; constant during a conversation

    def __repr__(self) -> str:
        return short_repr(self)


class GeneratorOutput(NamedTuple):
    """Output of a step. Step s returns frame s - max_delay; before there is none, and tokens are UNFORCED (-2)."""

    text: Int[Array, "B"]
    codes: Int[Array, "B Q"]
    valid: Bool[Array, "B"]  # there is a frame, and the row is active
    sampled_text: Int[Array, "B"]  # text generated in this very step, max_delay - delays[0] frames ahead of `text`
    sampled_codes: Int[Array, "B Q"]  # codes generated in this very step
    text_logits: Float[Array, "B V"]  # logits of `sampled_text`, before temperature
    heads: tuple[Float[Array, "B C"], ...]  # class probabilities of the extra heads

    def __repr__(self) -> str:
        return short_repr(self)


@dataclasses.dataclass(frozen=True)
class Generator:
    """The language model as a step function. Hashable; parameters and state are passed separately."""

    lm: MoshiLM
    dtype: str = "float32"  # of parameters and caches
    guidance: Guidance | None = None
    defaults: SamplingDefaults = SamplingDefaults()
    sampler: Sampler = sample  # draws the tokens from their logits

    def __repr__(self) -> str:
        c = self.lm.config
        guided = f", {self.guidance}" if self.guidance else ""
        return f"Generator(MoshiLM {c.num_layers} layers of {c.dim}, delays={c.delays}, {self.dtype}{guided})"

    def init_state(
        self,
        batch: int,
        seed: int | Sequence[int] = 0,
        params: Params = None,
        conditions: Mapping[str, Any] | None = None,
        unguided: Mapping[str, Any] | None = None,
    ) -> GeneratorState:
        """Return the state before the first step.

        Args:
          batch: number of conversations, B.
          seed: of row 0; the next rows count on from it; or one per row.
          params: needed where the model takes conditions.
          conditions: for each condition one text or tensor row per row (see `prepare_conditions`).
          unguided: the same for the unguided branch of guidance; by default the conditions themselves.

        Raises:
          ConfigError: conditions are missing or not of this model.
        """
        branches = 1 if self.guidance is None else 2
        transformer = self.lm.init_state(batch * branches, self.dtype)
        config = self.lm.config
        return GeneratorState(
            offset=jnp.zeros((batch,), jnp.int32),
            seed=batch_seeds(seed, batch),
            tokens=jnp.full((batch, config.n_q + 1, config.max_delay + 2), UNFORCED, jnp.int32),
            transformer=_split_branches(transformer, branches),
            conditions=self._conditions(batch, params, conditions, unguided),
        )

    def controls(self, batch: int, **settings: Any) -> Controls:
        """Return controls that force nothing, with the checkpoint's sampling defaults.

        Args:
          batch: number of conversations, B.
          **settings: fields of `Controls`, one value for all rows or one value per row.
        """
        config, d = self.lm.config, self.defaults
        fields: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
            "reset": (False, bool, ()), "active": (True, bool, ()), "seed": (0, jnp.uint32, ()),
            "force_text": (UNFORCED, jnp.int32, ()), "force_audio": (UNFORCED, jnp.int32, (config.dep_q,)),
            "force_user": (UNFORCED, jnp.int32, (config.user_q,)),
            "text_bias": (0.0, jnp.float32, (config.text_card_out,)),
            "temperature": (d.temperature, jnp.float32, ()), "text_temperature": (d.text_temperature, jnp.float32, ()),
            "top_k": (d.top_k, jnp.int32, ()), "text_top_k": (d.text_top_k, jnp.int32, ()),
            "guidance": (d.guidance, jnp.float32, ()), "masked_until": (0, jnp.int32, ()),
        }  # fmt: skip
        unknown = set(settings) - set(fields)
        if unknown:
            raise TypeError(f"controls have no {sorted(unknown)}; they have {sorted(fields)}")
        values = {name: settings.get(name, default) for name, (default, _, _) in fields.items()}
        if "seed" not in settings:
            values["seed"] = batch_seeds(0, batch)

        def fill(name: str) -> Array:
            _, dtype, row = fields[name]
            value = jnp.asarray(values[name], dtype)
            if value.ndim == 1 and row:  # one value per row, for a whole row
                value = value[:, None]
            return jnp.array(jnp.broadcast_to(value, (batch, *row)))

        return Controls(**{name: fill(name) for name in fields})

    def step(
        self, params: Params, state: GeneratorState, user_codes: Int[Array, "B U"], controls: Controls
    ) -> tuple[GeneratorState, GeneratorOutput]:
        """Advance B conversations by one frame. Jitted; the state is donated.

        As in the original, the first step of a conversation replaces the user codes by the initial token. `Duplex` runs
        that step itself.

        Args:
          params: of the language model.
          state: from `init_state` or the step before.
          user_codes: the user's codes of this frame; codebooks beyond the model's are ignored.
          controls: steering.
        """
        return _step_donated(self, params, state, user_codes, controls)

    def step_undonated(
        self, params: Params, state: GeneratorState, user_codes: Int[Array, "B U"], controls: Controls
    ) -> tuple[GeneratorState, GeneratorOutput]:
        """Advance like `step`, but leave `state` usable: to fork a conversation, or to keep a copy of it."""
        return _step_undonated(self, params, state, user_codes, controls)

    def advance(
        self, params: Params, state: GeneratorState, user_codes: Int[Array, "B U"], controls: Controls
    ) -> tuple[GeneratorState, GeneratorOutput]:
        """Advance like `step`, not jitted and without the reset: for use inside other jitted functions."""
        out = self.lm.apply({"params": params}, self, state, user_codes, controls, method=_advance)
        return out  # type: ignore[return-value]

    def restart(self, state: GeneratorState, controls: Controls) -> GeneratorState:
        """Reset the conversations of `controls.reset`, with the seeds of `controls`."""
        seed = jnp.where(controls.reset, controls.seed, state.seed)
        return reset(state, controls.reset)._replace(seed=seed)

    def _conditions(
        self, batch: int, params: Params, guided: Mapping[str, Any] | None, unguided: Mapping[str, Any] | None
    ) -> Conditions:
        config = self.lm.config
        fused = config.fuser is not None and (config.fuser.sum or config.fuser.cross)
        if not fused:
            if guided:
                raise ConfigError(f"this model takes no conditions, got {sorted(guided)}")
            return Conditions()
        if guided is None or params is None:
            names = [c.name for c in config.conditioners]
            raise ConfigError(f"this model is conditioned: pass 'params' and 'conditions' for {names}")
        branches = [guided] if self.guidance is None else [guided, guided if unguided is None else unguided]
        embedded = [
            self.lm.apply({"params": params}, prepared, method=MoshiLM.condition)
            for prepared in (prepare_conditions(config.conditioners, b, batch) for b in branches)
        ]
        if len(embedded) == 1:
            return embedded[0]  # type: ignore[return-value]
        return jax.tree.map(lambda *rows: jnp.stack(rows, 1), *embedded)


def _advance(
    lm: MoshiLM, generator: Generator, state: GeneratorState, user_codes: Array, controls: Controls
) -> tuple[GeneratorState, GeneratorOutput]:
    config, active, guidance, sample = lm.config, controls.active, generator.guidance, generator.sampler
    delays = jnp.asarray(config.delays, jnp.int32)
    spoken = 1 + config.dep_q  # streams that the model generates

    user = jnp.where(controls.force_user == UNFORCED, user_codes[:, : config.user_q], controls.force_user)
    tokens = _put(state.tokens, slice(spoken, None), user, state.offset[:, None] + delays[spoken:], active)
    starting = (state.offset[:, None] <= delays) | ~active[:, None]
    inputs = jnp.where(starting, lm.initial_tokens(), _take(tokens, state.offset[:, None] + 0 * delays))
    inputs = _branch_inputs(guidance, inputs, starting, state.offset, controls, delays)

    branches = 1 if guidance is None else 2
    hidden, transformer = lm.temporal(
        inputs[..., None],
        _join_branches(state.transformer, branches),
        jnp.repeat(active, branches),
        _join_branches(state.conditions, branches),
    )
    text_logits = lm.text_logits(hidden)[:, 0].astype(jnp.float32)
    keep_text = guidance is not None and guidance.no_text
    text_logits = _guide(text_logits, branches, controls.guidance, keep_text) + controls.text_bias
    keys = functools.partial(row_keys, state.seed, state.offset)
    text = sample(text_logits, controls.text_temperature, controls.text_top_k, keys(0))
    text = jnp.where(controls.force_text == UNFORCED, text, controls.force_text)

    codes, token, past = [], text, None
    for k in range(config.dep_q):
        logits, past = lm.depth_step(jnp.repeat(token, branches), hidden, past, k)
        logits = _guide(logits.astype(jnp.float32), branches, controls.guidance)
        token = sample(logits, controls.temperature, controls.top_k, keys(1 + k))
        token = jnp.where(controls.force_audio[:, k] == UNFORCED, token, controls.force_audio[:, k])
        codes.append(token)

    offset = state.offset + active
    generated = jnp.stack([text, *codes], 1)
    tokens = _put(tokens, slice(0, spoken), generated, jnp.repeat(offset[:, None], spoken, 1), active)
    frame = _take(tokens[:, :spoken], offset[:, None] - config.max_delay + delays[:spoken])
    valid = (offset > config.max_delay) & active
    frame = jnp.where(valid[:, None], frame, UNFORCED)
    heads = tuple(jax.nn.softmax(y[::branches, 0].astype(jnp.float32), -1) for y in lm.heads(hidden))
    new = GeneratorState(offset, state.seed, tokens, _split_branches(transformer, branches), state.conditions)
    return new, GeneratorOutput(frame[:, 0], frame[:, 1:], valid, text, generated[:, 1:], text_logits, heads)


def _put(line: Array, streams: slice, tokens: Array, steps: Array, active: Array) -> Array:
    """Write tokens [B, k] of the given streams at their steps [B, k] into the delay line of active rows."""
    here = jnp.arange(line.shape[-1]) == (steps % line.shape[-1])[..., None]
    part = jnp.where(here & active[:, None, None], tokens[..., None].astype(line.dtype), line[:, streams])
    return line.at[:, streams].set(part)


def _take(line: Array, steps: Array) -> Array:
    """Return the tokens [B, k] at steps [B, k] of the delay line."""
    return jnp.take_along_axis(line, (steps % line.shape[-1])[..., None], -1)[..., 0]


def _branch_inputs(
    guidance: Guidance | None, inputs: Array, starting: Array, offset: Array, controls: Controls, delays: Array
) -> Int[Array, "BG K"]:
    """Return the input tokens of both branches, interleaved. Hidden tokens of the unguided one are zero embeddings."""
    if guidance is None:
        return inputs
    unguided = inputs
    if guidance.masked_prefix:
        hidden = offset[:, None] <= delays + controls.masked_until[:, None]
        unguided = jnp.where(hidden & ~starting, ZERO, unguided)
    if guidance.no_text:
        unguided = unguided.at[:, 0].set(jnp.where(starting[:, 0], unguided[:, 0], ZERO))
    return jnp.stack([inputs, unguided], 1).reshape(-1, inputs.shape[-1])


def _guide(logits: Array, branches: int, coefficient: Array, keep: bool = False) -> Float[Array, "B V"]:
    if branches == 1:
        return logits
    guided, unguided = logits[::2], logits[1::2]
    return guided if keep else unguided + (guided - unguided) * coefficient[:, None]


def _join_branches(tree: State, branches: int) -> State:
    return tree if branches == 1 else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _split_branches(tree: State, branches: int) -> State:
    return tree if branches == 1 else jax.tree.map(lambda x: x.reshape(-1, branches, *x.shape[1:]), tree)


def _step(
    generator: Generator, params: Params, state: GeneratorState, user_codes: Array, controls: Controls
) -> tuple[GeneratorState, GeneratorOutput]:
    return generator.advance(params, generator.restart(state, controls), user_codes, controls)


_step_donated = jax.jit(_step, static_argnums=0, donate_argnums=2)
_step_undonated = jax.jit(_step, static_argnums=0)
