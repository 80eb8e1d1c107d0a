"""The documentation's code runs as it stands."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

import jomni
from tools.synth import espeak, flite

ROOT = Path(__file__).parents[2]


def test_api_page(tmp_path, monkeypatch, tiny_moshi):
    jomni.save(tiny_moshi, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.S)
    assert len(blocks) == 11
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)


def printed(name, folder, monkeypatch) -> str:
    """What a notebook prints, run from top to bottom in a kernel of its own."""
    notebook = nbformat.read(ROOT / f"colab/{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    monkeypatch.setenv("MPLBACKEND", "agg")
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_talk_notebook(tmp_path, monkeypatch):
    text = printed("talk", tmp_path, monkeypatch)
    assert "answer: seven plus five is twelve" in text
    assert "ms a frame" in text and "scripted: the banana is blue" in text


@pytest.mark.slow
@pytest.mark.skipif(not (flite.available() and espeak.available()), reason="needs flite and espeak-ng")
def test_training_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("JOMNI_MINUTES", "0.2")
    text = printed("train_nano", tmp_path, monkeypatch)
    assert "parameters answer:" in text
    assert (tmp_path / "nano_work/nano_self_rollout/export/config.json").is_file()
