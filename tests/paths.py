"""Folders of the repository that tests read."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
GOLDENS = TESTS / "goldens"
PARITY_DATA = TESTS / "parity" / "data"
