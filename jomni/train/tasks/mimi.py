"""Training of Mimi from random weights, as its paper describes (arXiv:2410.00037, 3.3). Their code is not public.

A step encodes, quantises half of the examples, and decodes. The balancer gives each audio loss its share of the
gradient, the semantic codebooks are distilled from a teacher, and the codebooks are updated as moving averages.
Discriminators, if there are any, are trained on the same audio. Without audio losses only the encoder and the semantic
codebooks are trained, three times as fast: a first stage for codecs whose semantic codes must be good.

Axes: B example, C audio channels, T samples, N frames, D latent dimension, F teacher features.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, PRNGKeyArray

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.load import load
from jomni.checkpoints.save import save
from jomni.errors import ConfigError
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.model import Mimi
from jomni.nn.layers import contract_last
from jomni.tensors.weight_map import flatten, unflatten
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import check_patterns, frozen_paths
from jomni.train.optimizer import OptimizerConfig, all_finite, ema_update, guard, make_optimizer, make_schedule
from jomni.train.task import Batch, Metrics, Task
from jomni.train.tasks.audio_losses import (
    SpectralConfig,
    balance,
    distillation_loss,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    spectral_distance,
)
from jomni.train.tasks.mimi_discriminator import DiscriminatorConfig, MultiScaleDiscriminator
from jomni.train.tasks.mimi_quantizer import Quantized, QuantizerTraining, quantize, update_codebooks

Params = Any


@dataclasses.dataclass(frozen=True)
class CodecDataConfig:
    """Segments of recordings, and the teacher of the semantic codebook (`jomni.data.recordings.segments`)."""

    manifest: str = ""  # manifest of the recordings
    segment_seconds: float = 0.96  # length of a segment; a whole number of code frames
    batch: int = 8  # segments per step
    channels: str = "mono"  # mono, left, right or both
    teacher: str = ""  # "phones", the suffix of feature files such as ".wavlm.npy", or "": no distillation
    phones: tuple[str, ...] = ()  # inventory of the teacher "phones", silence first
    teacher_size: int = 0  # features per frame in feature files
    teacher_rate: float = 50.0  # frames per second in feature files
    lookahead: float = 0.0  # seconds of audio that the encoder has beyond the teacher's window of each code frame
    gain_db: tuple[float, float] | None = None  # lowest and highest random gain, dB
    on_frames: bool = False  # start segments only at multiples of a code frame
    skip_bad: bool = False  # leave out bad recordings instead of rejecting the manifest
    workers: int = mutable_on_resume(0)  # processes that read the data; 0: a thread

    @property
    def teacher_features(self) -> int:
        """Return the number of teacher features per code frame."""
        return 2 * len(self.phones) if self.teacher == "phones" else self.teacher_size

    @property
    def teacher_groups(self) -> int:
        """Return the number of distributions in the teacher features: one per half frame for phones."""
        return 2 if self.teacher == "phones" else 1

    def dataset(self, model: MimiConfig, seed: int) -> Any:
        """Return endless batches for this codec.

        Raises:
          ConfigError, DataError: see `jomni.data.recordings.segments.audio_dataset`.
        """
        from jomni.data.recordings.segments import audio_dataset

        return audio_dataset(
            self.manifest, sample_rate=model.sample_rate, frame_rate=model.frame_rate,
            segment_seconds=self.segment_seconds, batch=self.batch, seed=seed, channels=self.channels,  # type: ignore[arg-type]
            teacher=self.teacher or None, phones=self.phones or None, teacher_rate=self.teacher_rate,
            lookahead=self.lookahead, gain_db=self.gain_db, on_frames=self.on_frames,
            skip_bad=self.skip_bad, workers=self.workers,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weights of the losses: shares of the audio gradient (`balance`), then factors of the other losses."""

    spectral: float = 1.0  # multi-resolution spectral distance; 0: adversarial losses only, the paper's best variant
    waveform: float = 0.0  # L1 of the samples
    adversarial: float = 4.0  # hinge loss; used with `discriminator` only
    feature: float = 4.0  # feature matching; used with `discriminator` only
    audio: float = 1.0  # norm of the balanced gradient
    # The decoder's first gradients can be so large that the latent collapses to a constant for thousands of steps.
    audio_warmup: int = 0  # steps in which `audio` rises from 1 % of its value
    distillation: float = 1.0  # distance between the semantic codebook and the teacher


@dataclasses.dataclass(frozen=True)
class CodecTaskConfig:
    """A codec, its data and its training options."""

    model: MimiConfig
    data: CodecDataConfig
    valid: CodecDataConfig | None = mutable_on_resume(None)  # held-out data
    init_from: str = ""  # folder or weight file to start from; "": random weights
    input_gain: float = 1.0  # initial factor on the encoder's first layer; its inverse is on the decoder's last layer
    # The gain brings speech to unit size. For small inputs the activations are nearly linear, and training is slow.
    freeze: tuple[str, ...] = ()  # frozen parameters: patterns that match the start of their paths, such as "encoder"
    quantizer: QuantizerTraining = dataclasses.field(default_factory=QuantizerTraining)
    spectral: SpectralConfig = dataclasses.field(default_factory=SpectralConfig)
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    distillation: Literal["cosine", "l1", "cross_entropy"] = "cosine"  # distance to the teacher, if there is one
    discriminator: DiscriminatorConfig | None = None  # None: no adversarial loss
    discriminator_from: int = 0  # first step with the adversarial loss
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100)  # noqa: RUF009  (frozen)
    discriminator_optimizer: OptimizerConfig = OptimizerConfig(lr=3e-4, b1=0.5, b2=0.9, weight_decay=0.0)  # noqa: RUF009
    ema: float = 0.999  # decay of a moving average of the weights, which is then exported; 0: no average

    def __post_init__(self) -> None:
        w = self.weights
        if not self.audio_weights and not (self.data.teacher and w.distillation > 0):
            raise ConfigError(
                "the codec has no loss: give weights.spectral or weights.waveform, a discriminator, or a teacher"
            )
        check_patterns(self.freeze)
        if not (self.input_gain > 0 and 0 <= self.ema < 1):
            raise ConfigError(
                f"input_gain must be positive and ema at least 0 and below 1, got {self.input_gain} and {self.ema}"
            )
        if self.data.teacher and not self.data.teacher_features:
            raise ConfigError(
                "the size of the teacher's features is unknown: give data.phones for the teacher 'phones', or "
                "data.teacher_size for feature files"
            )

    @property
    def audio_weights(self) -> dict[str, float]:
        """Return the nonzero weights of the audio losses.

        If there are none, the acoustic codebooks and the decoder do not run.
        """
        w = self.weights
        weights = {"spectral": w.spectral, "waveform": w.waveform}
        if self.discriminator is not None:
            weights |= {"adversarial": w.adversarial, "feature": w.feature}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def build(self, steps: int) -> CodecTask:
        return CodecTask(self, steps)


@struct.dataclass
class CodecState:
    """Training state of the codec."""

    step: Array
    params: Params  # parameters of the codec, including codebooks
    head: Array | None  # [F, D]: maps the semantic latent to the teacher's features; None without a teacher
    optimizer: Any
    average: Params  # moving average of `params`; empty if not used
    norms: dict[str, Array]  # running means of the balancer
    discriminator: Params  # empty if not used
    discriminator_optimizer: Any


class CodecTask(Task):
    """Training task of the codec."""

    unit = "audio s"

    def __init__(self, config: CodecTaskConfig, steps: int) -> None:
        self.config = config
        self.mimi = Mimi(config.model, config.model.num_codebooks)
        self.units_per_step = config.data.batch * config.data.segment_seconds
        self._optimizer = make_optimizer(config.optimizer, steps)
        self._schedule = make_schedule(config.optimizer, steps)
        self._discriminator = MultiScaleDiscriminator(config.discriminator) if config.discriminator else None
        self._discriminator_optimizer = make_optimizer(config.discriminator_optimizer, steps)

    def init(self, key: PRNGKeyArray) -> CodecState:
        c = self.config
        keys = jax.random.split(key, 3)
        pcm = jnp.zeros((1, c.model.channels, c.model.frame_size))
        params = self.mimi.init(keys[0], pcm)["params"]
        params = {**params, "quantizer": _fresh_codebooks(params["quantizer"])}
        _scale_kernel(params["encoder"], c.input_gain, first=True)
        _scale_kernel(params["decoder"], 1 / c.input_gain, first=False)
        head = None
        if c.data.teacher:
            head = 0.02 * jax.random.normal(keys[1], (c.data.teacher_features, c.model.seanet.dimension))
        trained, _ = self._split(params)
        discriminator = self._discriminator.init(keys[2], pcm)["params"] if self._discriminator else {}
        return CodecState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            head=head,
            optimizer=self._optimizer.init((trained, head)),
            average=jax.tree.map(jnp.copy, params) if c.ema else {},
            norms={name: jnp.zeros(()) for name in self.config.audio_weights},
            discriminator=discriminator,
            discriminator_optimizer=self._discriminator_optimizer.init(discriminator),
        )

    def warm_start(self, state: CodecState, key: PRNGKeyArray) -> CodecState:
        if not self.config.init_from:
            return state
        found = load(self.config.init_from, components=("mimi",))
        if found.configs["mimi"] != self.config.model:
            raise ConfigError(f"{self.config.init_from}: its codec's configuration differs from this run's 'model'")
        place = lambda old, new: jax.device_put(jnp.asarray(new, old.dtype), old.sharding)  # noqa: E731
        params = jax.tree.map(place, state.params, found.params["mimi"])
        return dataclasses.replace(
            state, params=params, average=jax.tree.map(jnp.copy, params) if self.config.ema else {}
        )

    def measure(self, state: CodecState, batch: Batch) -> Metrics:
        c, pcm, teacher = self.config, batch["pcm"], batch.get("teacher")
        params = state.average if c.ema else state.params
        latent, _ = self._apply(params, pcm, Mimi.encode_latent)
        whole = QuantizerTraining(quantize=1.0, all_codebooks=1.0)
        quantized = quantize(c.model.quantizer, whole, params["quantizer"], latent, jax.random.key(0))
        metrics: Metrics = {}
        if c.audio_weights:
            audio, _ = self._apply(params, quantized.latent, Mimi.decode_latent)
            metrics["spectral"] = spectral_distance(audio, pcm, c.spectral, c.model.sample_rate)
        if state.head is not None and teacher is not None:
            features = contract_last(quantized.semantic, state.head)
            metrics["distillation"] = distillation_loss(features, teacher, c.distillation, c.data.teacher_groups)
        return metrics

    def dataset(self, seed: int) -> Any:
        return self._batches(self.config.data, seed)

    def valid_dataset(self) -> Any:
        return None if self.config.valid is None else self._batches(self.config.valid, 0)

    def _batches(self, data: CodecDataConfig, seed: int) -> Any:
        dataset = data.dataset(self.config.model, seed)
        if data.teacher:
            features = next(iter(dataset))["teacher"].shape[-1]
            if features != data.teacher_features:
                raise ConfigError(
                    f"the teacher {data.teacher!r} has {features} features, data.teacher_size is {data.teacher_size}"
                )
        return dataset

    def update(self, state: CodecState, batch: Batch, key: PRNGKeyArray) -> tuple[CodecState, Metrics]:
        c = self.config
        pcm, teacher = batch["pcm"], batch.get("teacher")
        trained, fixed = self._split(state.params)

        def generate(trained: Params, head: Array | None) -> tuple[tuple[Array, Array, Array], Quantized]:
            params = unflatten(trained | fixed)
            latent, _ = self._apply(params, pcm, Mimi.encode_latent)
            quantized = quantize(
                c.model.quantizer, c.quantizer, params["quantizer"], latent, key, acoustic=bool(c.audio_weights)
            )
            audio = jnp.zeros_like(pcm)
            if c.audio_weights:
                audio, _ = self._apply(params, quantized.latent, Mimi.decode_latent)
            distance = jnp.zeros(())
            if head is not None and teacher is not None:
                features = contract_last(quantized.semantic, head)
                distance = distillation_loss(features, teacher, c.distillation, c.data.teacher_groups)
            return (audio, quantized.commitment, distance), quantized

        (audio, commitment, distance), pull, quantized = jax.vjp(generate, trained, state.head, has_aux=True)
        values, gradient, norms = balance(audio, self._audio_losses(state, pcm), self.config.audio_weights, state.norms)
        warmup = c.weights.audio_warmup
        rise = jnp.minimum(1.0, 0.01 + state.step / warmup) if warmup else 1.0
        weights = jnp.asarray(c.quantizer.commitment), jnp.asarray(c.weights.distillation)
        gradients = pull((c.weights.audio * rise * gradient, *weights))
        gradients = ({p: jnp.zeros_like(g) if _is_codebook(p) else g for p, g in gradients[0].items()}, gradients[1])
        norm = optax.global_norm(gradients)
        finite = all_finite(norm, audio, values)

        changes, optimizer = self._optimizer.update(gradients, state.optimizer, (trained, state.head))
        trained, head = optax.apply_updates((trained, state.head), changes)
        params = unflatten(trained | fixed)
        perplexity: Metrics = {}
        updates = {
            name: {k: book for k, book in books.items() if f"quantizer/{name}/layers_{k}/embedding_sum" not in fixed}
            for name, books in quantized.updates.items()
        }  # fmt: skip
        if any(updates.values()):
            params["quantizer"], perplexity = update_codebooks(c.quantizer, params["quantizer"], updates)
        new = dataclasses.replace(
            state, step=state.step + 1, params=params, head=head, optimizer=optimizer, norms=norms
        )
        if c.ema:
            new = dataclasses.replace(new, average=ema_update(state.average, params, c.ema, state.step))
        loss = values.get("spectral", sum(values.values(), start=jnp.zeros(())) if values else distance)
        metrics = {
            "loss": loss, **values, **perplexity,
            "commitment": commitment, "distillation": distance, "gradient_norm": norm,
            "lr": self._schedule(state.step),
        }  # fmt: skip
        if self._discriminator:
            learnt, extra = self._learn_to_discriminate(state, pcm, jax.lax.stop_gradient(audio))
            new, metrics = dataclasses.replace(new, **learnt), metrics | extra
            finite &= all_finite(extra)
        return guard(finite, new, state), metrics | {"skipped": 1.0 - finite}

    def export(self, state: CodecState, folder: Path) -> None:
        params = jax.device_get(state.average if self.config.ema else state.params)
        save(Checkpoint("mimi", {"mimi": self.config.model}, {"mimi": params}), folder, overwrite=True)

    def _apply(self, params: Params, x: Array, method: Callable[..., Any]) -> Any:
        return self.mimi.apply({"params": params}, x, method=method)

    def _audio_losses(self, state: CodecState, pcm: Float[Array, "B C T"]) -> dict[str, Callable[[Array], Array]]:
        c = self.config
        losses: dict[str, Callable[[Array], Array]] = {
            "spectral": lambda y: spectral_distance(y, pcm, c.spectral, c.model.sample_rate),
            "waveform": lambda y: jnp.abs(y - pcm).mean(),
        }
        if self._discriminator:
            judge = functools.partial(self._judge, state.discriminator)
            on = state.step >= c.discriminator_from
            losses["adversarial"] = lambda y: on * hinge_generator(judge(y)[0])
            losses["feature"] = lambda y: on * feature_matching(judge(pcm)[1], judge(y)[1])
        return {name: losses[name] for name in self.config.audio_weights}

    def _learn_to_discriminate(
        self, state: CodecState, real: Float[Array, "B C T"], fake: Float[Array, "B C T"]
    ) -> tuple[dict[str, Any], Metrics]:
        def loss(params: Params) -> Array:
            return hinge_discriminator(self._judge(params, real)[0], self._judge(params, fake)[0])

        value, gradients = jax.value_and_grad(loss)(state.discriminator)
        changes, optimizer = self._discriminator_optimizer.update(
            gradients, state.discriminator_optimizer, state.discriminator
        )
        learnt = optax.apply_updates(state.discriminator, changes)
        metrics = {"discriminator": value, "discriminator_gradient_norm": optax.global_norm(gradients)}
        return {"discriminator": learnt, "discriminator_optimizer": optimizer}, metrics

    def _judge(self, params: Params, audio: Array) -> tuple[list[Array], list[list[Array]]]:
        assert self._discriminator is not None
        return self._discriminator.apply({"params": params}, audio)  # type: ignore[return-value]

    def _split(self, params: Params) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the trained and the frozen leaves, by path."""
        frozen = frozen_paths(params, self.config.freeze)
        flat = flatten(params)
        return {p: x for p, x in flat.items() if p not in frozen}, {p: x for p, x in flat.items() if p in frozen}


def _scale_kernel(params: Params, factor: float, first: bool) -> None:
    """Scale the kernel of the first or last convolution of a SEANet in place."""
    layers = sorted((name for name in params if "kernel" in params[name]), key=lambda name: int(name.split("_")[1]))
    layer = params[layers[0 if first else -1]]
    layer["kernel"] = factor * layer["kernel"]


def _is_codebook(path: str) -> bool:
    return path.endswith(("embedding_sum", "cluster_usage", "initialized"))


def _fresh_codebooks(params: Params) -> Params:
    """Return the parameters with all codebooks marked as not initialised, so that the first batch fills them."""
    if "initialized" in params:
        return {**params, "initialized": jnp.zeros_like(params["initialized"])}
    return {name: _fresh_codebooks(value) if isinstance(value, dict) else value for name, value in params.items()}
