"""A place for tests to say how far they were from the originals; printed at the end of a run."""

import pytest


@pytest.fixture
def say(request):
    """Adds a line to what is printed at the end."""
    return lambda line: request.node.user_properties.append(("distance", line))


def pytest_terminal_summary(terminalreporter):
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []) if r.when == "call"]
    lines = [line for report in reports for key, line in report.user_properties if key == "distance"]
    if lines:
        terminalreporter.section("distance to the originals")
        for line in lines:
            terminalreporter.write_line(line)
