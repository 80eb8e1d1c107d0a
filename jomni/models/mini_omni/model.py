"""Mini-Omni (arXiv:2408.16725; litgpt/model.py of its repository): eight streams in, eight heads out, one decoder.

Axes: B slot, A audio streams, T time, D model, W width of speech features, F frames of speech features, V text tokens,
U tokens of an audio stream. Streams stand in the order audio 0 to A-1, text; tokens are numbers in the stream's own
vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.models.decoder import Decoder, DecoderState
from jomni.models.mini_omni.config import MiniOmniConfig
from jomni.nn.linear import Linear


class MiniOmniState(NamedTuple):
    """Streaming state."""

    backbone: DecoderState
    post_adapter: DecoderState | None  # None where the model has none


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
    """The model. Hashable; parameters are passed beside it.

    Parameters: `whisper_adapter`; `backbone` (`embed_tokens`, `layers_*`, `norm`, and `lm_head` unless tied); with a
    post-adapter `post_adapter` (`layers_*`, `norm`, `lm_head`: audio's own head). `lora` as in `Decoder`, on the
    backbone; `remat` likewise, on all layers.
    """

    config: MiniOmniConfig
    lora: tuple[int, float] = (0, 2.0)
    remat: bool = False

    def setup(self) -> None:
        c, d = self.config, self.config.decoder
        self.backbone = Decoder(d, self.lora, self.remat)
        linear = c.adapter == "mlp"
        self.whisper_adapter = Linear(d.dim, use_bias=True) if linear else GatedAdapter(d.hidden_dim, d.dim, d.mlp_bias)
        if c.post_adapter is not None:
            self.post_adapter = Decoder(
                c.post_adapter, remat=self.remat
            )  # its embedding is not used, and so has no parameters

    def __call__(
        self,
        tokens: Int[Array, "B A+1 T"],
        features: Float[Array, "B T W"] | None = None,
        heard: Bool[Array, "B T"] | None = None,
        state: MiniOmniState | None = None,
        active: Bool[Array, "B"] | None = None,
        lengths: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T A U"], MiniOmniState | None]:
        """Runs T steps.

        Args:
          tokens: the streams' tokens, of the whole sequence (state None) or of its next block.
          features: the speech encoder's output at each step (`place_features`); None: nobody speaks.
          heard: the steps where features take the place of the audio streams' embeddings.
          state, active, lengths: as in `Decoder`.

        Returns:
          Logits of the next text token and of each audio stream's, float32, special tokens included; and the state.
        """
        x = self.embed(tokens, features, heard)
        x, backbone = self.backbone.stack(x, None if state is None else state.backbone, active, lengths)
        v = self.config.vocabulary
        every = self.backbone.logits(self.backbone.norm(x))
        text, audio, post = every[..., : v.padded_text_size], every[..., v.padded_text_size : v.size], None
        if self.config.post_adapter is not None:
            y, post = self.post_adapter(x, None if state is None else state.post_adapter, active, lengths)
            audio = self.post_adapter.logits(y)
        audio = audio.reshape(*audio.shape[:-1], v.streams, v.padded_audio_size)
        return text, audio, None if backbone is None else MiniOmniState(backbone, post)

    def embed(
        self,
        tokens: Int[Array, "B A+1 T"],
        features: Float[Array, "B T W"] | None = None,
        heard: Bool[Array, "B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """The mean of the streams' embeddings; where speech is heard it stands in for those of all audio streams."""
        v = self.config.vocabulary
        first_rows = jnp.asarray([v.audio_row(i) for i in range(v.streams)] + [0], tokens.dtype)
        x = self.backbone.embed_tokens(tokens + first_rows[:, None])
        audio, text = x[:, :-1].sum(1), x[:, -1]
        if features is not None or self.is_initializing():
            if features is None or heard is None:
                features = jnp.zeros((*text.shape[:2], self.config.feature_dim), text.dtype)
                heard = jnp.zeros(text.shape[:2], bool)
            speech = self.whisper_adapter(features).astype(text.dtype)
            audio = jnp.where(heard[..., None], v.streams * speech, audio)
        x = (audio + text) / (v.streams + 1)
        return x * jnp.asarray(self.config.decoder.embedding_scale, x.dtype)

    def initial_state(self, batch: int, capacity: int, dtype: Any = jnp.float32, block: int = 1) -> MiniOmniState:
        """State before the first step; arguments as in `Decoder.initial_state`."""
        c = self.config
        post = (
            None
            if c.post_adapter is None
            else Decoder(c.post_adapter, parent=None).initial_state(batch, capacity, dtype, block)
        )
        return MiniOmniState(Decoder(c.decoder, parent=None).initial_state(batch, capacity, dtype, block), post)


def place_features(
    features: Float[Array, "B F W"], lengths: Int[Array, "B"], steps: int
) -> tuple[Float[Array, "B T W"], Bool[Array, "B T"]]:
    """Features and `heard` of a prompt of `steps` steps: frame i stands at step i + 1, behind the opening token.

    Args:
      features: the speech encoder's output.
      lengths: frames of each slot that count; 0: a slot of text alone.
    """
    at = jnp.arange(steps) - 1
    placed = jnp.take(features, jnp.clip(at, 0, features.shape[1] - 1), axis=1)
    return placed, (at >= 0) & (at < jnp.minimum(lengths, features.shape[1])[:, None])
