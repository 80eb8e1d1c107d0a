"""The training loop: mesh, task, data, state, resume, update, metrics, checkpoints, export."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jomni.errors import ConfigError, OutputError
from jomni.folders import locked
from jomni.progress import stages
from jomni.sharding import batch_sharding, make_mesh, shardings
from jomni.train.checkpoint import Checkpointer
from jomni.train.config import TrainConfig
from jomni.train.metrics import MetricsWriter, Window, means
from jomni.train.progress import RunProgress
from jomni.train.run_config import keep_config
from jomni.train.task import Batch, Task, parameter_count

EXPORT = "export"
"""Subfolder of a run with the exported weights."""
_IN_FLIGHT = 2  # updates dispatched and not yet finished: enough to keep the device busy

_From = TypeVar("_From")
_Got = TypeVar("_Got")


class Stopped(Exception):
    """Raised when a signal ended the run early. The last checkpoint contains all finished steps."""

    def __init__(self, step: int, signum: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step, self.signum = step, signum


def train(config: TrainConfig, say: Callable[[str], None] = lambda line: None) -> Path:
    """Train up to `config.steps`, and resume if the run's folder holds checkpoints.

    The folder `out/name` then contains config.json, metrics.jsonl, tensorboard/, checkpoints/ and export/ (the
    weights). On SIGTERM or SIGINT the current step is finished, a checkpoint is written and `Stopped` is raised. If the
    signal also ended the workers that prepare the batch of this step, the checkpoint is of the step before.

    Args:
      config: the run.
      say: called with lines of progress information.

    Returns:
      The folder with the exported weights.

    Raises:
      ConfigError: options contradict each other, the data, the devices, or the existing run in the folder.
      DataError: the data cannot be used, or differs from the data of the run that is resumed.
      OutputError: the folder cannot be written, or another process is training in it.
      JomniError: the loss or the gradient of too many consecutive steps was not finite.
      Stopped: a signal ended the run.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    task = config.task.build(config.steps)
    with _run_folder(config, say) as folder:
        return _train(config, mesh, task, folder, say)


def _train(config: TrainConfig, mesh: Mesh, task: Task, folder: Path, say: Callable[[str], None]) -> Path:
    """Run `train` inside its locked folder."""
    # Data. The position of the iterator is set below if the run is resumed.
    iterator = iter(task.dataset(config.seed))

    # State. Its shapes are computed first, so that each device initialises its own shard.
    seed = jax.random.key(config.seed)
    key = jax.device_put(seed, NamedSharding(mesh, PartitionSpec()))
    shapes = jax.eval_shape(task.init, key)
    placed = shardings(shapes, task.logical_axes(shapes), mesh, say)
    state = jax.jit(task.init, out_shardings=placed)(key)
    checkpointer = Checkpointer(folder / "checkpoints", config.keep)
    first = checkpointer.latest or 0
    if not first or getattr(state, "frozen", None) is not None:
        state = task.warm_start(state, seed)
    if first:
        state, began_at = checkpointer.restore(state)
        iterator.set_state(began_at)
        say(f"resuming {folder} at step {first}")
    say(f"{parameter_count(shapes):,} numbers in the state, on {mesh.size} x {mesh.devices.flat[0].device_kind}")

    # Update. Its randomness depends on (seed, step) only.
    def step_function(state: Any, batch: Batch, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        return task.update(state, batch, jax.random.fold_in(key, state.step))

    update = jax.jit(
        step_function,
        donate_argnums=0,
        out_shardings=(placed, NamedSharding(mesh, PartitionSpec())),
    )

    validate = _validation(config, task, mesh) if config.valid_every else None

    # Train.
    batches = _feed(iterator, mesh, config.prefetch)
    window, in_flight = Window(), collections.deque[jax.Array]()
    writer = MetricsWriter(folder, first, config.tensorboard)
    due: int | None = None  # step of a log line whose metrics have not been fetched
    position: str  # state of the iterator after the batch of the last finished step

    def log(step: int) -> None:
        values = window.fetch(step, config.max_skips)
        values["steps_per_s"] = progress.log(step, values)
        writer.write(step, values)

    def save(step: int) -> None:
        nonlocal due
        if due:
            log(due)
            due = None
        checkpointer.save(step, state, json.loads(position))

    def stop(step: int) -> NoReturn:
        if step > first:
            save(step)
        checkpointer.wait()
        raise Stopped(step, caught[0])

    closing = contextlib.closing
    with closing(iterator), closing(writer), closing(checkpointer), stages() as show, _signals() as caught:
        progress = RunProgress(show, config.name, first, config.steps, task.unit, task.units_per_step)
        for step in range(first + 1, config.steps + 1):
            fetched = _fetch(next, batches, caught)
            if fetched is None:  # a signal ended the workers as well
                stop(step - 1)
            batch, position = fetched
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, batch, key)
            in_flight.append(metrics["loss"])
            if due:  # fetched after the next step was dispatched, so that the device does not wait for the host
                log(due)
                due = None
            window.add(metrics)
            if len(in_flight) > _IN_FLIGHT:
                in_flight.popleft().block_until_ready()
            progress.step(step)
            if step % config.log_every == 0 or step == config.steps:
                due = step
            if validate and (step % config.valid_every == 0 or step == config.steps):
                values = _fetch(validate, state, caught)
                if values is not None:
                    writer.write(step, values)
                    say(f"step {step}, held-out data: {_listed(values)}")
            stopping = bool(caught)  # read once: a later signal stops the next step
            if step % config.checkpoint_every == 0 or step == config.steps or stopping:
                save(step)
            if config.export_every and step % config.export_every == 0:
                task.export(state, folder / EXPORT)
            if stopping and step < config.steps:
                stop(step)
        checkpointer.wait()
        task.export(state, folder / EXPORT)
    say(f"{folder / EXPORT}: the weights after {max(first, config.steps)} steps")
    return folder / EXPORT


@contextlib.contextmanager
def _run_folder(config: TrainConfig, say: Callable[[str], None]) -> Iterator[Path]:
    """Create and lock the run's folder, write its configuration, and yield its path."""
    folder = Path(config.out).expanduser() / config.name
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:  # all hosts of a run share its folder
                held.enter_context(locked(folder, "run with --name"))
            for change in keep_config(config, folder):
                say(f"from here on {change}")
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written ({error.strerror}). Choose another folder with --out."
            ) from None
        yield folder


def _feed(iterator: Any, mesh: Mesh, ahead: int) -> Iterator[tuple[Batch, str]]:
    """Yield batches placed on the device, `ahead` of their use, each with the iterator's state after it as JSON."""
    queue = collections.deque[tuple[Batch, str]]()
    while True:
        while len(queue) < ahead:
            batch = next(iterator)
            queue.append((_place(batch, mesh), json.dumps(iterator.get_state())))
        yield queue.popleft()


def _fetch(get: Callable[[_From], _Got], of: _From, caught: Sequence[int]) -> _Got | None:
    """Return `get(of)`, or None if it fails after a signal: the signal may have ended the workers that make batches."""
    try:
        return get(of)
    except Exception:
        if not caught:
            raise
        return None


def _place(batch: Batch, mesh: Mesh) -> Batch:
    """Place a batch on the devices, with its rows sharded among them."""
    rows = {len(x) for x in jax.tree.leaves(batch)}
    assert len(rows) == 1, f"the arrays of a batch have {sorted(rows)} rows"
    return jax.device_put(batch, batch_sharding(mesh, rows.pop()))


def _validation(config: TrainConfig, task: Task, mesh: Mesh) -> Callable[[Any], dict[str, float]]:
    """Return a function from a state to its mean metrics on the task's held-out batches."""
    dataset = task.valid_dataset()
    if dataset is None:
        raise ConfigError("'valid_every' needs held-out data: give it as 'task.valid'")
    measure = jax.jit(task.measure)

    def validate(state: Any) -> dict[str, float]:
        with contextlib.closing(iter(dataset)) as batches:
            first = itertools.islice(batches, config.valid_batches)
            found = jax.device_get([measure(state, _place(batch, mesh)) for batch in first])
        return {f"valid/{name}": value for name, value in means(found).items()}

    return validate


def _listed(values: Mapping[str, float]) -> str:
    values = dict(sorted(values.items(), key=lambda pair: pair[0] != "valid/loss"))
    return ", ".join(f"{name.removeprefix('valid/')} {value:.4g}" for name, value in values.items())


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Yield a list that collects SIGTERM and SIGINT. A second SIGINT raises KeyboardInterrupt."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum: int, frame: FrameType | None) -> None:
        if caught and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signum)
        print("finishing the step and saving ...", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
