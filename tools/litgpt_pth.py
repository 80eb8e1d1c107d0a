"""Convert an exported Mini-Omni to lit_model.pth, the file that the original code reads.

python -m tools.litgpt_pth FOLDER

FOLDER holds lit_model.safetensors and model_config.yaml from `jomni convert --to litgpt`; lit_model.pth is written
beside them. Needs torch. A tied head is one tensor with two names, as in the original.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"


def convert(folder: Path) -> Path:
    """Write lit_model.pth and return its path.

    Raises:
      SystemExit: a file is missing, or lit_model.pth exists.
    """
    source, options, target = (folder / n for n in ("lit_model.safetensors", "model_config.yaml", "lit_model.pth"))
    if missing := [path.name for path in (source, options) if not path.is_file()]:
        raise SystemExit(f"{folder}: has no {' and no '.join(missing)}. Write it with: jomni convert --to litgpt")
    if target.exists():
        raise SystemExit(f"{target}: exists already. Move it away first.")
    tensors = load_file(source)
    if yaml.safe_load(options.read_text(encoding="utf-8")).get("tie_word_embeddings"):
        tensors[HEAD] = tensors[EMBEDDING]
    torch.save(tensors, target)
    return target


def main() -> None:
    """Convert the folder given on the command line."""
    parser = argparse.ArgumentParser(description="Writes lit_model.pth beside lit_model.safetensors.")
    parser.add_argument("folder", type=Path, help="an exported Mini-Omni")
    print(convert(parser.parse_args().folder))


if __name__ == "__main__":
    main()
