"""Configuration of a training run: a frozen dataclass that `get_config()` of a configuration file returns."""

from __future__ import annotations

import dataclasses
from typing import Any

from jomni.errors import ConfigError
from jomni.train.task import TaskConfig


def mutable_on_resume(default: Any) -> Any:
    """Return a dataclass field whose value may change when a run is resumed."""
    return dataclasses.field(default=default, metadata={"mutable_on_resume": True})


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Number of devices along each mesh axis. Their product is the number of devices used."""

    data: int = 0  # replicas of the model that share the batch; 0: all devices that the other axes leave
    fsdp: int = 1  # shards of the parameters, gathered where they are used; shares the batch too
    tensor: int = 1  # shards of each layer: heads, feed-forward and vocabulary

    def __post_init__(self) -> None:
        if self.data < 0 or self.fsdp < 1 or self.tensor < 1:
            raise ConfigError(f"mesh axes must be at least 1 (data: or 0), got {self.data}, {self.fsdp}, {self.tensor}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Configuration of one run. Its folder is `out/name`."""

    name: str  # name of the run and of its folder
    task: TaskConfig  # the model, the data and the losses
    steps: int = mutable_on_resume(1000)  # total number of updates
    seed: int = 0  # seed of the parameters, the order of the data and all noise
    out: str = mutable_on_resume("runs")  # folder of runs
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig, metadata={"mutable_on_resume": True})  # devices
    log_every: int = mutable_on_resume(10)  # steps between two lines of metrics
    checkpoint_every: int = mutable_on_resume(500)  # steps between two checkpoints
    keep: int = mutable_on_resume(2)  # number of checkpoints kept
    export_every: int = mutable_on_resume(0)  # steps between two exports of the weights; 0: at the end only
    valid_every: int = mutable_on_resume(0)  # steps between two validations on held-out data; 0: none
    valid_batches: int = mutable_on_resume(16)  # batches of a validation, the same ones every time
    max_skips: int = mutable_on_resume(20)  # consecutive steps with a non-finite gradient before the run fails
    prefetch: int = mutable_on_resume(2)  # batches placed on the device ahead of their step
    tensorboard: bool = mutable_on_resume(True)  # write event files beside metrics.jsonl

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every", "keep", "valid_batches", "max_skips", "prefetch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' must be at least 1, got {getattr(self, name)}")
        for name in ("export_every", "valid_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"'{name}' must not be negative, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:  # JAX would wrap larger seeds around
            raise ConfigError(f"'seed' must be at least 0 and below 2**32 = {2**32}, got {self.seed}")
        if not self.name or "/" in self.name:
            raise ConfigError(f"'name' must be a folder's name without '/', got {self.name!r}")
