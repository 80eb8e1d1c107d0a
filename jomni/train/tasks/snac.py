"""Training of SNAC from random weights (arXiv:2410.14411), with losses on the audio and two ways to train codebooks.

By default codebooks are trained as in Improved RVQGAN (arXiv:2306.06546), on which SNAC's quantiser is based: each
vector takes the entry that is nearest in direction, gradients pass straight through, a codebook loss moves the entry to
the vector and a commitment loss moves the encoder to the entry. With `codebook_decay` codebooks are moving averages, as
Mimi's; they follow latents that change fast. There is no discriminator: for a single voice, such as a dialogue model's,
the spectral distance gives intelligible speech.

Axes: B example, T samples, L latent steps, N tokens of a codebook, C channels, E codebook width, V entries,
K codebooks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import jomni
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.errors import ConfigError
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Snac
from jomni.nn.lookahead import Block
from jomni.tensors.weight_map import flatten, unflatten
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import Tree, check_patterns, frozen_paths
from jomni.train.gradient_task import GradientConfig, GradientState, GradientTask
from jomni.train.optimizer import guard
from jomni.train.task import Batch, Metrics
from jomni.train.tasks.audio_losses import SpectralConfig, spectral_distance
from jomni.train.tasks.mimi_quantizer import CodebookAverage, CodebookUpdate, assign, follow, perplexity


@dataclasses.dataclass(frozen=True)
class SnacData:
    """Segments of recordings (`jomni.data.recordings.segments`)."""

    manifest: str  # manifest of recordings at the codec's sample rate
    frames: int = 16  # length of a segment
    channels: str = "mono"  # mono, left, right or both
    gain_db: tuple[float, float] | None = None  # lowest and highest random gain, dB
    on_frames: bool = False  # start segments only at multiples of a code frame
    skip_bad: bool = False  # leave out bad recordings instead of rejecting the manifest
    workers: int = mutable_on_resume(0)  # processes that read the data; 0: a thread

    def dataset(self, model: SnacConfig, batch: int, seed: int) -> Any:
        """Return endless batches of "pcm", float32 [B, 1, T].

        Raises:
          ConfigError, DataError: see `jomni.data.recordings.segments.audio_dataset`.
        """
        from jomni.data.recordings.segments import audio_dataset

        if self.frames < 1 or self.frames % model.frame_multiple:
            raise ConfigError(f"'frames' must be a multiple of {model.frame_multiple}, got {self.frames}")
        return audio_dataset(
            self.manifest, sample_rate=model.sampling_rate, frame_rate=model.frame_rate,
            segment_seconds=self.frames / model.frame_rate, batch=batch, seed=seed, channels=self.channels,  # type: ignore[arg-type]
            gain_db=self.gain_db, on_frames=self.on_frames, skip_bad=self.skip_bad, workers=self.workers,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SnacLossConfig:
    """Factors of the losses."""

    spectral: float = 1.0  # multi-resolution spectral distance
    waveform: float = 0.0  # L1 of the samples
    codebook: float = 1.0  # codebook loss: moves entries to the vectors assigned to them
    commitment: float = 0.25  # commitment loss: moves vectors to their entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class SnacTrainConfig(GradientConfig):
    """A SNAC, its data and its training options."""

    model: SnacConfig
    data: SnacData
    valid: SnacData | None = mutable_on_resume(None)  # held-out data
    init_from: str | None = None  # checkpoint to start from; none: random weights
    fit_codebooks: int = 0  # number of batches for k-means that replaces init_from's codebooks; 0: keep them
    quantize: float = 1.0  # share of the examples that are quantised; the latents of the others pass unchanged
    codebook_decay: float = 0.0  # decay of moving-average codebooks; 0: codebooks are trained by gradient
    restart_below: float = 0.1  # moving-average entries used less than this share of the mean take a random latent
    freeze: tuple[str, ...] = ()  # frozen parameters: patterns that match the start of their paths, such as "encoder"
    loss: SnacLossConfig = dataclasses.field(default_factory=SnacLossConfig)
    spectral: SpectralConfig = dataclasses.field(default_factory=SpectralConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patterns(self.freeze)
        if not 0 <= self.quantize <= 1:
            raise ConfigError(f"'quantize' must be from 0 to 1, got {self.quantize}")
        if self.codebook_decay and 0 < self.quantize < 1:
            raise ConfigError(
                f"moving-average codebooks ('codebook_decay' {self.codebook_decay:g}) need all examples quantised, or "
                f"none: set 'quantize' to 1, not {self.quantize:g}"
            )
        if self.fit_codebooks < 0 or (self.fit_codebooks and self.init_from is None):
            raise ConfigError(
                f"'fit_codebooks' = {self.fit_codebooks} must be 0 or more, and needs 'init_from' if it is above 0"
            )

        if not 0 <= self.codebook_decay < 1:
            raise ConfigError(f"'codebook_decay' must be at least 0 and below 1, got {self.codebook_decay}")
        if self.codebook_decay and self.microbatches > 1:
            raise ConfigError("'codebook_decay' needs the whole batch at once: set 'microbatches' to 1")

    def build(self, steps: int) -> SnacTask:
        """Return the task."""
        return SnacTask(self, steps)


def _centres(latents: Float[np.ndarray, "N E"], entries: int, seed: int) -> Float[np.ndarray, "V E"]:
    """Return the means [V, E] of k-means clusters of latents by direction, because entries are chosen by direction."""
    from scipy.cluster.vq import kmeans2

    length = np.linalg.norm(latents, axis=1, keepdims=True)
    centres, nearest = kmeans2(latents / np.maximum(length, 1e-6), entries, minit="++", seed=seed, missing="warn")
    count, total = np.bincount(nearest, minlength=entries)[:, None], np.zeros_like(centres)
    np.add.at(total, nearest, latents)
    return np.where(count > 0, total / np.maximum(count, 1), centres * length.mean())


_UPDATES = "updates"  # key among the loss's metrics for the codebook updates, which are not a metric
_BOOK = re.compile(r"quantizer/(quantizers_\d+)/codebook")
_LAST = re.compile(r"decoder/model_\d+/magnitude$")
_UNIT_END = re.compile(r"/block_\d+/block_3/magnitude$")  # of a residual unit


class TrainingPass(NamedTuple):
    """Result of a training pass over a batch."""

    audio: Float[Array, "B 1 T"]
    to_entry: Float[Array, ""]  # mean squared distance of entries to their vectors, with gradient for the entries
    to_latent: Float[Array, ""]  # the same, with gradient for the vectors
    perplexities: Float[Array, "K"]  # of each codebook over these examples
    updates: list[CodebookUpdate]  # of each codebook, for moving averages


class TrainableSnac(Snac):
    """SNAC with a training pass. Its parameters are those of `Snac`."""

    def run(self, pcm: Float[Array, "B 1 T"], keys: Array, quantised: Float[Array, "B"]) -> TrainingPass:
        """Encode, quantise and decode.

        Args:
          pcm: whole frames.
          keys: keys of the decoder's noise, one per example.
          quantised: 1 if an example is quantised; 0 if its latent passes unchanged and has no codebook loss.
        """
        left = self.encoder(Block(pcm.swapaxes(1, 2)))[0].steps
        total, mask = jnp.zeros_like(left), quantised[:, None, None]
        to_entry, to_latent, perplexities, updates = jnp.zeros(()), jnp.zeros(()), list[Array](), list[CodebookUpdate]()
        for k, quantizer in enumerate(self.quantizer.quantizers):
            projected = quantizer.project(left)
            codes = jax.lax.stop_gradient(quantizer.nearest(projected))
            entry = quantizer.entries(codes)
            passed = projected + mask * jax.lax.stop_gradient(entry - projected)  # straight-through gradients
            given = quantizer.expand(passed)
            to_entry += (mask * jnp.square(entry - jax.lax.stop_gradient(projected))).mean()
            to_latent += (mask * jnp.square(jax.lax.stop_gradient(entry) - projected)).mean()
            entries = quantizer.codebook.shape[0]
            updates.append(assign(jax.lax.stop_gradient(projected), codes, entries, jax.random.fold_in(keys[0], k)))
            perplexities.append(perplexity(updates[-1].usage))
            left, total = left - given, total + given
        audio = self.decode_latent(total, keys)[0]
        count = len(self.quantizer.quantizers)
        return TrainingPass(audio, to_entry / count, to_latent / count, jnp.stack(perplexities), updates)

    def codebook_input(self, pcm: Float[Array, "B 1 T"], book: int) -> Float[Array, "B N E"]:
        """Return the input of a codebook: the projected residual that the codebooks before it leave."""
        left = self.encoder(Block(pcm.swapaxes(1, 2)))[0].steps
        for quantizer in self.quantizer.quantizers[:book]:
            left = left - quantizer.decode(quantizer.encode(left))
        projected: Array = self.quantizer.quantizers[book].project(left)
        return projected


def scale_residuals(params: Tree) -> Tree:
    """Scale fresh parameters so that residual units start near the identity and the audio near silence.

    Otherwise each unit doubles the variance, and the decoder's final tanh saturates, where it has no gradient.
    """
    leaves = flatten(params)
    last = max((path for path in leaves if _LAST.match(path)), key=lambda path: int(path.split("/")[1].split("_")[1]))
    factors = {path: 0.1 for path in leaves if _UNIT_END.search(path)} | {last: 0.1}
    return unflatten({path: factors.get(path, 1.0) * leaf for path, leaf in leaves.items()})


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "frozen", "optimizer", "ema", "books"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class SnacState(GradientState):
    """Training state of SNAC."""

    books: dict[str, CodebookAverage]  # moving-average codebooks, by the name of their quantiser


class SnacTask(GradientTask):
    """Training task of SNAC."""

    unit = "audio s"

    def __init__(self, config: SnacTrainConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.config = config
        self.units_per_step = config.batch * config.data.frames / config.model.frame_rate
        self._snac = TrainableSnac(config.model)

    def init_params(self, key: PRNGKeyArray) -> Tree:
        c = self.config.model
        params: Any = self._snac.init(key, jnp.zeros((1, 1, c.frame_size * c.frame_multiple)))["params"]
        return scale_residuals(params)

    def _state(self, tree: Tree) -> SnacState:
        state = super()._state(tree)
        fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
        return SnacState(**fields, books=self._books(state))

    def _books(self, state: GradientState) -> dict[str, CodebookAverage]:
        """Return moving averages that equal the current entries, with equal usage."""
        if not self.config.codebook_decay:
            return {}
        found = dict[str, CodebookAverage]()
        for path, leaf in flatten(state.params).items():
            if match := _BOOK.fullmatch(path):
                found[match[1]] = CodebookAverage(jnp.ones(len(leaf)), jnp.copy(leaf))
        return found

    def with_parameters(self, state: GradientState, leaves: Mapping[str, Array]) -> GradientState:
        begun = super().with_parameters(state, leaves)
        assert isinstance(begun, SnacState)
        return dataclasses.replace(begun, books=self._books(begun))

    def update(self, state: GradientState, batch: Batch, key: PRNGKeyArray) -> tuple[GradientState, Metrics]:
        """Return the next state and metrics. Moving-average codebooks are updated after the gradient step."""
        new, metrics = super().update(state, batch, key)
        updates: Any = metrics.pop(_UPDATES)
        assert isinstance(state, SnacState) and isinstance(new, SnacState)
        c, books, entries = self.config, dict(state.books), dict[str, Array]()
        for k in range(c.model.num_codebooks):
            if (name := f"quantizers_{k}") in books:
                held, metrics[f"perplexity_{k}"] = follow(books[name], updates[k], c.codebook_decay, c.restart_below)
                books[name], entries[f"quantizer/{name}/codebook"] = held, held.entries
        params, ema = (None if t is None else unflatten(flatten(t) | entries) for t in (new.params, new.ema))
        moved = dataclasses.replace(new, params=params, ema=ema, books=books)
        return guard(metrics["skipped"] == 0, moved, new), metrics

    def measure(self, state: GradientState, batch: Batch) -> Metrics:
        return {name: value for name, value in super().measure(state, batch).items() if name != _UPDATES}

    def start(self, key: PRNGKeyArray) -> Tree | None:
        c = self.config
        if c.init_from is None:
            return None
        found = jomni.load(c.init_from, components=("snac",))
        if found.configs["snac"] != c.model:
            raise ConfigError(f"'init_from' {c.init_from}: its configuration differs from 'model'")
        params: Tree = found.params["snac"]
        return self._fit_codebooks(params) if c.fit_codebooks else params

    def _fit_codebooks(self, params: Tree) -> Tree:
        """Return the parameters with codebooks fitted to the current latents, because distant entries never train."""
        c, batches = self.config, iter(self.dataset(0))  # always the same batches: a resumed run repeats this
        pcm = [next(batches)["pcm"] for _ in range(c.fit_codebooks)]

        @partial(jax.jit, static_argnums=2)
        def before(params: Tree, pcm: Array, book: int) -> Any:
            return self._snac.apply({"params": params}, pcm, book, method=TrainableSnac.codebook_input)

        for book in range(c.model.num_codebooks):
            latents = np.concatenate([np.asarray(before(params, x, book)) for x in pcm])
            latents = latents.reshape(-1, c.model.codebook_dim)
            if len(latents) < c.model.codebook_size:
                raise ConfigError(
                    f"'fit_codebooks' = {len(pcm)}: these batches have {len(latents)} latents for the "
                    f"{c.model.codebook_size} entries of codebook {book}. Increase it."
                )
            codebook = jnp.asarray(_centres(latents, c.model.codebook_size, book), jnp.float32)
            params = unflatten(flatten(params) | {f"quantizer/quantizers_{book}/codebook": codebook})
        return params

    def frozen(self, params: Tree) -> Collection[str]:
        return frozen_paths(params, self.config.freeze)

    def rows(self, batch: Batch, key: PRNGKeyArray | None) -> Any:
        """Return the samples, and 1 or 0 per example for whether it is quantised (without a key, 1)."""
        count = len(batch["pcm"])
        drawn = jnp.ones(count) if key is None else jax.random.bernoulli(key, self.config.quantize, (count,))
        return {"pcm": batch["pcm"], "quantised": drawn.astype(jnp.float32)}

    def counts(self, batch: Batch) -> int:
        return len(batch["pcm"])

    def loss(self, params: Tree, batch: Batch, counts: int, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        c, pcm = self.config, batch["pcm"]
        keys = jax.random.split(key, len(pcm))
        found: Any = self._snac.apply({"params": params}, pcm, keys, batch["quantised"], method=TrainableSnac.run)
        spectral = spectral_distance(found.audio, pcm, c.spectral, c.model.sampling_rate)
        waveform = jnp.abs(found.audio - pcm).mean()
        w, share = c.loss, len(pcm) / counts
        codebook = 0.0 if c.codebook_decay else w.codebook * found.to_entry
        whole = w.spectral * spectral + w.waveform * waveform + codebook + w.commitment * found.to_latent
        metrics: Any = {"loss": whole, "spectral": spectral, "waveform": waveform, "codebook": found.to_entry}
        metrics |= {f"perplexity_{k}": found.perplexities[k] for k in range(c.model.num_codebooks)}
        return share * whole, {name: share * value for name, value in metrics.items()} | {_UPDATES: found.updates}

    def dataset(self, seed: int) -> Any:
        return self.config.data.dataset(self.config.model, self.config.batch, seed)

    def valid_dataset(self) -> Any:
        c = self.config
        return None if c.valid is None else c.valid.dataset(c.model, c.batch, 0)

    def export(self, state: GradientState, folder: Path) -> None:
        params = jax.device_get(self.exported(state))
        made = Checkpoint("snac", {"snac": self.config.model}, {"snac": params})
        jomni.save(made, folder, overwrite=True)
