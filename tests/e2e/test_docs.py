"""The documentation: every code block runs as it stands, links lead somewhere, the site builds, notebooks run."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.paths import ROOT
from tools.synth import espeak, flite

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- not run: [^\n]+ -->\n)?```(?P<language>python|bash)\n(?P<code>.*?)```", re.S)
SLOW = {"docs/guides/sharding.md", "docs/guides/mini_omni.md", "docs/guides/codec.md", "docs/guides/full_duplex.md"}
"""Pages whose models take long to compile."""


def blocks(page):
    """The blocks of a page that are to be run: (language, code)."""
    return [(m["language"], m["code"]) for m in BLOCK.finditer(page.read_text()) if not m["skip"]]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


RUN = [
    pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if name_of(page) in SLOW else [])
    for page in PAGES
    if blocks(page)
]


def test_there_is_code_to_run():
    assert {"README.md", "docs/quickstart.md", *SLOW} <= {name_of(param.values[0]) for param in RUN}


@pytest.mark.parametrize("page", RUN)
def test_every_block_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {"__name__": "page"}
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, name_of(page), "exec"), names)
        else:
            shell = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=ROOT, env=shell, check=True, timeout=300)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_files_that_a_page_names_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"
    for path in re.findall(r"`((?:jomni|configs|tools|tests|colab)/[\w/]+\.(?:py|ipynb|md|wav))`", text):
        assert (ROOT / path).exists(), f"{name_of(page)} names {path}"


def test_the_readme_fits_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs pip install 'jomni[docs]'")
def test_the_site_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    assert "jomni eval talk" in (tmp_path / "reference/cli/index.html").read_text()
    api = (tmp_path / "reference/api/index.html").read_text()
    assert "from_pretrained" in api and "decode_step" in api
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r'(?:<script[^>]+src|<link rel="stylesheet" href)="(?:https?:)?//[^"]+', page.read_text())
        assert not fetched, f"{page.name} fetches {fetched}"


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
