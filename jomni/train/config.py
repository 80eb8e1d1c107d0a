"""What a training run is: one frozen dataclass, returned by `get_config()` of a file such as configs/nano/lm.py."""

from __future__ import annotations

import dataclasses
from typing import Any

from jomni.errors import ConfigError
from jomni.train.task import TaskConfig


def mutable_on_resume(default: Any) -> Any:
    """Return a field that may differ when a run is resumed: it does not change what has been learnt so far."""
    return dataclasses.field(default=default, metadata={"mutable_on_resume": True})


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each mesh axis has; their product is the number of devices used."""

    data: int = 0  # copies of the model that share the batch; 0: all devices that the other axes leave
    fsdp: int = 1  # parts the parameters are cut into, gathered where they are used; shares the batch too
    tensor: int = 1  # parts each layer is cut into: heads, feed-forward and vocabulary

    def __post_init__(self) -> None:
        if self.data < 0 or self.fsdp < 1 or self.tensor < 1:
            raise ConfigError(f"mesh axes must be at least 1 (data: or 0), got {self.data}, {self.fsdp}, {self.tensor}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run. Its folder is `out/name`."""

    name: str  # the run's name, and its folder's
    task: TaskConfig  # what is trained on what
    steps: int = mutable_on_resume(1000)  # updates in all
    seed: int = 0  # of the parameters, the order of the data and all noise
    out: str = mutable_on_resume("runs")  # folder of runs
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig, metadata={"mutable_on_resume": True})  # devices
    log_every: int = mutable_on_resume(10)  # steps between two lines of metrics
    checkpoint_every: int = mutable_on_resume(500)  # steps between two checkpoints
    keep: int = mutable_on_resume(2)  # checkpoints kept
    export_every: int = mutable_on_resume(0)  # steps between two exports of the weights; 0: at the end only
    valid_every: int = mutable_on_resume(0)  # steps between two measurements on data that is not trained on; 0: none
    valid_batches: int = mutable_on_resume(16)  # of that data, the same ones every time
    max_skips: int = mutable_on_resume(20)  # steps in a row without a finite gradient before the run gives up
    prefetch: int = mutable_on_resume(2)  # batches placed on the device ahead of their step
    tensorboard: bool = mutable_on_resume(True)  # write event files beside metrics.jsonl

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every", "keep", "valid_batches", "max_skips", "prefetch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' must be at least 1, got {getattr(self, name)}")
        for name in ("export_every", "valid_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"'{name}' must not be negative, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:  # what is beyond, JAX would wrap around to a seed within
            raise ConfigError(f"'seed' must be at least 0 and below 2**32 = {2**32}, got {self.seed}")
        if not self.name or "/" in self.name:
            raise ConfigError(f"'name' must be a folder's name without '/', got {self.name!r}")
