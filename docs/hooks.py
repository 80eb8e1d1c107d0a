"""mkdocs hook: puts the help text of every command into the command line's page."""

from __future__ import annotations

import os
from typing import Any

MARK = "<!-- help texts are put here by docs/hooks.py -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by the help texts, 80 columns wide."""
    if MARK not in markdown:
        return markdown
    os.environ["COLUMNS"] = "80"
    from jomni.cli.parser import help_texts

    sections = [
        f"### `jomni {name}`\n\n```text\n{text.rstrip()}\n```" if name else f"```text\n{text.rstrip()}\n```"
        for name, text in help_texts().items()
    ]
    return markdown.replace(MARK, "\n\n".join(sections))
