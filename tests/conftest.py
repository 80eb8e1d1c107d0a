"""Fixtures shared by all tests: small seeded checkpoints in Kyutai's layout, written without torch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

import jomni
from tests import compilation_cache
from tests.parity import compare
from tools.random_model import random_checkpoint

# No deadline: the first example compiles, and machines are busy.
hypothesis.settings.register_profile("default run", deadline=None, max_examples=80)
hypothesis.settings.register_profile("everything", deadline=None, max_examples=300)
hypothesis.settings.load_profile("default run")


def pytest_configure(config):
    """Choose how many examples properties are tried on, and keep compiled programs from run to run.

    Workers, and the commands that tests start, inherit the setting of the compilation cache.
    """
    if config.getoption("--all"):
        hypothesis.settings.load_profile("everything")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # a worker, or a cache chosen by the user
        return
    folder = compilation_cache.folder()
    compilation_cache.prepare(folder)
    for name, value in {
        "jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0,
    }.items():  # fmt: skip
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)  # of this process: jax, imported above, has read the environment already


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    """Leave out slow tests unless they are asked for, and live comparisons where the originals are not installed.

    Slow tests are asked for by `--all`, by `-m slow`, or by their own id, `path::name`.
    """
    if not config.getoption("--all") and "slow" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("slow") and not is_named(item, config)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    missing = [name for name in ("torch", "moshi", "transformers") if importlib.util.find_spec(name) is None]
    for item in items:
        if missing and item.get_closest_marker("peers"):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


def is_named(item: pytest.Item, config: pytest.Config) -> bool:
    """Return whether an argument of the command is the id of a test, with or without its parameters."""
    test = item.nodeid.partition("::")[2]
    for argument in config.args:
        path, _, name = argument.partition("::")
        same_file = (config.invocation_params.dir / path).resolve() == item.path.resolve()
        if same_file and name and (test == name or test.startswith(f"{name}[")):
            return True
    return False


def pytest_terminal_summary(terminalreporter):
    """Print how far jomni was from the originals, as recorded by tests/parity/conftest.py."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []) if r.when == "call"]
    recorded = [pair for report in reports for pair in report.user_properties]
    noted = [value for key, value in recorded if key == "compared"]
    if noted:
        terminalreporter.section("distance to the originals")
        for line in [value for key, value in recorded if key == "distance"]:
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"parity: {compare.summary(noted)}")


@pytest.fixture(scope="module", autouse=True)
def optimisations(request) -> Iterator[None]:
    """Leave most of XLA's optimisations out in modules marked `compiled_quickly`: their models are so small that
    compiling is most of the work."""
    quick = request.node.get_closest_marker("compiled_quickly") is not None
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", before or quick)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_dropped() -> Iterator[None]:
    """Forget what was compiled before there is too much of it: every program maps regions of memory, Linux allows a
    process 65,530 of them, and XLA crashes at the limit, which a whole run would reach."""
    yield
    regions = Path("/proc/self/maps")
    if regions.exists() and len(regions.read_bytes().splitlines()) > 12_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def tiny_mimi(tiny_moshi) -> jomni.Checkpoint:
    """A codec alone."""
    return jomni.Checkpoint("mimi", {"mimi": tiny_moshi.configs["mimi"]}, {"mimi": tiny_moshi.params["mimi"]})


@pytest.fixture(scope="session")
def tiny_moshi() -> jomni.Checkpoint:
    """A language model with its codec and tokenizer."""
    return random_checkpoint()


@pytest.fixture(scope="session")
def tokenizer_bytes(tiny_moshi) -> bytes:
    """Its sentencepiece model."""
    return tiny_moshi.tokenizer


@pytest.fixture(scope="session")
def tiny_mimi_file(tiny_mimi, tmp_path_factory) -> Path:
    """A bare Mimi file in Kyutai's layout, its configuration beside it."""
    folder = tmp_path_factory.mktemp("mimi") / "mimi"
    jomni.save(tiny_mimi, folder)
    return next(folder.glob("*.safetensors"))


@pytest.fixture(scope="session")
def tiny_moshi_folder(tiny_moshi, tmp_path_factory) -> Path:
    """A folder in Kyutai's layout."""
    folder = tmp_path_factory.mktemp("moshi") / "moshi"
    jomni.save(tiny_moshi, folder)
    return folder
