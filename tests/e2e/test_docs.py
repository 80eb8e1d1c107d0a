"""The documentation's code runs as it stands."""

import re
from pathlib import Path

import jomni

ROOT = Path(__file__).parents[2]


def test_api_page(tmp_path, monkeypatch, tiny_moshi):
    jomni.save(tiny_moshi, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.S)
    assert len(blocks) == 7
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)
