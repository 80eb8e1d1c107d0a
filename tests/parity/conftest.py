"""Record how far jomni was from the originals. tests/conftest.py prints it at the end of a run."""

from collections.abc import Iterator

import jax
import pytest

from tests.parity.compare import NOTED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Put the comparisons of a test into its report, which workers send to the process that prints."""
    NOTED.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [("compared", noted) for noted in NOTED]


@pytest.fixture
def say(request):
    """Return a function that adds a line to what is printed at the end."""
    return lambda line: request.node.user_properties.append(("distance", line))


@pytest.fixture
def one_thread_and_float32():
    """The originals and jomni side by side: threads of one do not slow the other, and nothing is rounded lower."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.default_matmul_precision("highest"):
        yield
