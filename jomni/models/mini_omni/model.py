"""Mini-Omni (arXiv:2408.16725; litgpt/model.py of its repository): eight streams in, eight heads out, one decoder.

Axes: B batch, A audio streams, T time, D model, W width of speech features, F frames of speech features, V text tokens,
U tokens of an audio stream. The order of streams is audio 0 to A-1, text. Tokens are numbered in each stream's own
vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.models.decoder import Decoder, DecoderState
from jomni.models.decoder.model import Embedding
from jomni.models.mini_omni.config import MiniOmniConfig
from jomni.nn.layers import Linear, LoRA
from jomni.printing import short_repr


class MiniOmniState(NamedTuple):
    """Streaming state."""

    backbone: DecoderState
    post_adapter: DecoderState | None  # None where the model has none

    def __repr__(self) -> str:
        return short_repr(self)


class GatedAdapter(nn.Module):
    """proj(silu(fc_1(x)) * fc_2(x)): from speech features to embeddings."""

    hidden_dim: int
    dim: int
    use_bias: bool

    def setup(self) -> None:
        self.fc_1, self.fc_2 = (Linear(self.hidden_dim, self.use_bias) for _ in range(2))
        self.proj = Linear(self.dim, self.use_bias)

    def __call__(self, x: Float[Array, "... W"]) -> Float[Array, "... D"]:
        return self.proj(jax.nn.silu(self.fc_1(x)) * self.fc_2(x))


class MiniOmni(nn.Module):
    """The model. Hashable; parameters are passed separately.

    Parameters: `whisper_adapter`; `backbone` (`embed_tokens`, `layers_*`, `norm`, and `lm_head` unless tied); with a
    post-adapter `post_adapter` (`layers_*`, `norm`, `lm_head`: audio's own head). `lora` as in `Decoder`, on the
    backbone; `remat` likewise, on all layers. With `apart` the parameters are those of `set_apart`: rows of audio are
    in `audio_tokens` and, where embedding and head differ, `audio_head`, so that a step computes only the logits that
    it needs.
    """

    config: MiniOmniConfig
    lora: LoRA | None = None
    remat: bool = False
    apart: bool = False

    def setup(self) -> None:
        c, d, v = self.config, self.config.decoder, self.config.vocabulary
        own = dataclasses.replace(d, vocab_size=v.padded_text_size) if self.apart else d
        self.backbone = Decoder(own, self.lora, self.remat)
        if self.apart:
            self.audio_tokens = Embedding(v.streams * v.padded_audio_size, d.dim)
            if not d.tied and c.post_adapter is None:
                self.audio_head = Linear(v.streams * v.padded_audio_size)
        linear = c.adapter == "mlp"
        self.whisper_adapter = Linear(d.dim, use_bias=True) if linear else GatedAdapter(d.hidden_dim, d.dim, d.mlp_bias)
        if c.post_adapter is not None:
            # Its embedding is not used and has no parameters.
            self.post_adapter = Decoder(c.post_adapter, remat=self.remat)

    def __call__(
        self,
        tokens: Int[Array, "B A+1 T"],
        features: Float[Array, "B T W"] | None = None,
        is_speech: Bool[Array, "B T"] | None = None,
        state: MiniOmniState | None = None,
        active: Bool[Array, "B"] | None = None,
        lengths: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T A U"], MiniOmniState | None]:
        """Run T steps.

        Args:
          tokens: the streams' tokens, of the whole sequence (state None) or of its next block.
          features: the speech encoder's output at each step (`place_features`); None: text alone.
          is_speech: True where features take the place of the audio streams' embeddings.
          state, active, lengths: as in `Decoder`.

        Returns:
          Logits of the next text token and of each audio stream's, float32, special tokens included; and the state.
        """
        held = (None, None) if state is None else (state.backbone, state.post_adapter)
        x, backbone = self.listen(tokens, features, is_speech, held[0], active, lengths)
        y, post = self.speak(x, held[1], active, lengths)
        if self.apart or self.config.post_adapter is not None:
            text, audio = self.text_logits(x), self.audio_logits(y)
        else:  # one product gives both
            v, every = self.config.vocabulary, self.backbone.logits(self.backbone.norm(x))
            text, audio = every[..., : v.padded_text_size], self._by_stream(every[..., v.padded_text_size : v.size])
        return text, audio, None if backbone is None else MiniOmniState(backbone, post)

    def listen(
        self,
        tokens: Int[Array, "B A+1 T"],
        features: Float[Array, "B T W"] | None = None,
        is_speech: Bool[Array, "B T"] | None = None,
        state: DecoderState | None = None,
        active: Bool[Array, "B"] | None = None,
        lengths: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B T D"], DecoderState | None]:
        """Run the backbone: return its hidden states, from which the text head reads, and its state."""
        return self.backbone.stack(self.embed(tokens, features, is_speech), state, active, lengths)

    def speak(
        self,
        x: Float[Array, "B T D"],
        state: DecoderState | None = None,
        active: Bool[Array, "B"] | None = None,
        lengths: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B T D"], DecoderState | None]:
        """Run the post-adapter: return the hidden states from which the audio heads read; without one, x itself."""
        return (x, None) if self.config.post_adapter is None else self.post_adapter(x, state, active, lengths)

    def text_logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Return logits of the next text token, float32, from the output of `listen`."""
        return self.backbone.logits(self.backbone.norm(x))[..., : self.config.vocabulary.padded_text_size]

    def audio_logits(self, y: Float[Array, "... D"]) -> Float[Array, "... A U"]:
        """Return logits of each audio stream's next token, float32, from the output of `speak`."""
        v = self.config.vocabulary
        if self.config.post_adapter is not None:
            return self._by_stream(self.post_adapter.logits(y))
        y = self.backbone.norm(y)
        if not self.apart:
            return self._by_stream(self.backbone.logits(y)[..., v.padded_text_size : v.size])
        logits = self.audio_tokens.attend(y) if self.config.decoder.tied else self.audio_head(y)
        return self._by_stream(self.backbone.cap(logits))

    def _by_stream(self, logits: Float[Array, "... AU"]) -> Float[Array, "... A U"]:
        v = self.config.vocabulary
        return logits.reshape(*logits.shape[:-1], v.streams, v.padded_audio_size)

    def embed(
        self,
        tokens: Int[Array, "B A+1 T"],
        features: Float[Array, "B T W"] | None = None,
        is_speech: Bool[Array, "B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Merge the streams' embeddings; at steps of speech its features replace those of all audio streams."""
        v, mean = self.config.vocabulary, self.config.merge == "mean"
        first_rows = jnp.asarray([v.audio_row(i) for i in range(v.streams)], tokens.dtype)[:, None]
        if self.apart:
            audio = self.audio_tokens(tokens[:, :-1] + first_rows - v.padded_text_size)
        else:
            audio = self.backbone.embed_tokens(tokens[:, :-1] + first_rows)
        audio, text = audio.sum(1), self.backbone.embed_tokens(tokens[:, -1])
        if features is not None or self.is_initializing():
            if features is None or is_speech is None:
                features = jnp.zeros((*text.shape[:2], self.config.feature_dim), text.dtype)
                is_speech = jnp.zeros(text.shape[:2], bool)
            speech = self.whisper_adapter(features).astype(text.dtype)
            audio = jnp.where(is_speech[..., None], v.streams * speech if mean else speech, audio)
        x = (audio + text) / (v.streams + 1) if mean else audio + text
        return x * jnp.asarray(self.config.decoder.embedding_scale, x.dtype)

    def init_state(self, batch: int, capacity: int, dtype: Any = jnp.float32, block: int = 1) -> MiniOmniState:
        """Return the state before the first step. Arguments are those of `Decoder.init_state`."""
        c = self.config
        post = (
            None
            if c.post_adapter is None
            else Decoder(c.post_adapter, parent=None).init_state(batch, capacity, dtype, block)
        )
        return MiniOmniState(Decoder(c.decoder, parent=None).init_state(batch, capacity, dtype, block), post)


def place_features(
    features: Float[Array, "B F W"], lengths: Int[Array, "B"], steps: int
) -> tuple[Float[Array, "B T W"], Bool[Array, "B T"]]:
    """Return features and `is_speech` of a prompt of `steps` steps. Frame i is at step i + 1, after the opening token.

    Args:
      features: the speech encoder's output.
      lengths: number of valid frames of each row; 0: a row of text alone.
    """
    at = jnp.arange(steps) - 1
    placed = jnp.take(features, jnp.clip(at, 0, features.shape[1] - 1), axis=1)
    return placed, (at >= 0) & (at < jnp.minimum(lengths, features.shape[1])[:, None])
