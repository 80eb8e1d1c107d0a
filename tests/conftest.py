"""Fixtures shared by all tests: small seeded checkpoints in Kyutai's layout, written without torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

import jomni
from tools.random_model import random_checkpoint

hypothesis.settings.register_profile("jomni", deadline=None)  # the first example compiles, and machines are busy
hypothesis.settings.load_profile("jomni")


def pytest_configure(config):
    """What one test has compiled no other compiles: workers, and the commands that tests start, share it."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # this is a worker, or somebody keeps a cache of their own
        return
    folder = tempfile.mkdtemp(prefix="jomni-xla-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    for name, value in {
        "jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.1,
    }.items():  # fmt: skip
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)  # of this process: jax, imported above, has read the environment already


def pytest_collection_modifyitems(items):
    """Leaves out the live comparisons where the original implementations are not installed."""
    missing = [name for name in ("torch", "moshi", "transformers") if importlib.util.find_spec(name) is None]
    for item in items:
        if missing and item.get_closest_marker("peers"):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.fixture(scope="module", autouse=True)
def optimisations(request) -> Iterator[None]:
    """Leaves most of XLA's optimisations out in modules marked `compiled_quickly`: their models are so small that
    compiling is most of the work."""
    quick = request.node.get_closest_marker("compiled_quickly") is not None
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", before or quick)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_dropped() -> Iterator[None]:
    """Forgets what was compiled before there is too much of it: every program maps regions of memory, Linux allows a
    process 65,530 of them, and XLA crashes at the limit, which a whole run would reach."""
    yield
    regions = Path("/proc/self/maps")
    if regions.exists() and len(regions.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def tiny_mimi(tiny_moshi) -> jomni.Checkpoint:
    """A codec alone."""
    return jomni.Checkpoint("mimi", tiny_moshi.mimi, None, {"mimi": tiny_moshi.params["mimi"]}, model_type="mimi")


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
