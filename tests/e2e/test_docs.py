"""The documentation's code runs as it stands."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

import jomni

ROOT = Path(__file__).parents[2]


def test_api_page(tmp_path, monkeypatch, tiny_moshi):
    jomni.save(tiny_moshi, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.S)
    assert len(blocks) == 8
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)


@pytest.mark.parametrize("name", ["first_steps"])
def test_notebook(name, tmp_path, monkeypatch):
    """Runs from top to bottom, in a kernel of its own."""
    notebook = nbformat.read(ROOT / f"colab/{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    monkeypatch.setenv("MPLBACKEND", "agg")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "ms a frame" in text and "scripted: Hello, how are you today?" in text
