"""A place for tests to say how far they were from the originals; printed at the end of a run."""

import jax
import pytest


@pytest.fixture
def say(request):
    """Adds a line to what is printed at the end."""
    return lambda line: request.node.user_properties.append(("distance", line))


@pytest.fixture
def one_thread_and_float32():
    """The originals and jomni side by side: threads of one do not slow the other, and nothing is rounded lower."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.default_matmul_precision("highest"):
        yield


def pytest_terminal_summary(terminalreporter):
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []) if r.when == "call"]
    lines = [line for report in reports for key, line in report.user_properties if key == "distance"]
    if lines:
        terminalreporter.section("distance to the originals")
        for line in lines:
            terminalreporter.write_line(line)
