"""Fixtures shared by all tests: small seeded checkpoints in Kyutai's layout, written without torch."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import jaxlib
import pytest

import jomni
from tools.random_model import random_checkpoint

hypothesis.settings.register_profile("jomni", deadline=None)  # the first example compiles, and machines are busy
hypothesis.settings.load_profile("jomni")


def compilation_cache() -> Path:
    """Return the folder of compiled programs: one per version of jax and jaxlib and per processor.

    A program compiled for one processor may use instructions that another lacks.
    """
    cpuinfo = Path("/proc/cpuinfo")
    processor = [platform.machine(), platform.processor()]
    if cpuinfo.exists():
        wanted = ("model name", "flags", "Features", "CPU part")
        processor += sorted({line for line in cpuinfo.read_text().splitlines() if line.startswith(wanted)})
    key = hashlib.sha256("\n".join(processor).encode()).hexdigest()[:12]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "jomni" / "xla" / f"jax-{jax.__version__}-jaxlib-{jaxlib.__version__}-{key}"


def pytest_configure(config):
    """Keeps compiled programs from run to run. Workers, and the commands that tests start, inherit the setting."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # a worker, or a cache chosen by the user
        return
    for name, value in {
        "jax_compilation_cache_dir": str(compilation_cache()), "jax_persistent_cache_min_compile_time_secs": 0.1,
    }.items():  # fmt: skip
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)  # of this process: jax, imported above, has read the environment already


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    """Leaves out slow tests unless they are asked for, and live comparisons where the originals are not installed."""
    if not config.getoption("--all") and "slow" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
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
