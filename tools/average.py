"""Average the parameters of models that were trained from the same weights (model soup, arXiv:2203.05482).

    python -m tools.average OUT MODEL MODEL ...

Configuration, tokenizer, dtypes and layout of the result are the first model's.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jomni
from jomni.checkpoints.registry import COMPONENTS
from jomni.errors import ConfigError
from jomni.tensors.weight_map import is_float


def average(models: Sequence[jomni.Checkpoint]) -> jomni.Checkpoint:
    """Return the first model with the mean of the parameters of all, computed in float32.

    Raises:
      ConfigError: the models' configurations differ.
    """
    first, *others = models
    for other in others:
        different = [n for n in COMPONENTS if other.configs.get(n) != first.configs.get(n)]
        if other.family != first.family:
            different.insert(0, "family")
        for name in different:
            raise ConfigError(
                f"{other.source}: '{name}' differs from that of {first.source}. Give models of one configuration "
                "that were trained from the same weights."
            )

    def mean(*leaves: Any) -> Any:
        if not is_float(leaves[0].dtype):
            return leaves[0]
        return np.mean([np.asarray(leaf, np.float32) for leaf in leaves], 0).astype(leaves[0].dtype)

    return dataclasses.replace(first, params=jax.tree.map(mean, *(model.params for model in models)))


def main() -> None:
    """Average the models given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.average", description="Writes the mean of models.")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="models of one configuration")
    parser.add_argument("--force", action="store_true", help="replace an existing model")
    args = parser.parse_args()
    try:
        jomni.save(average([jomni.load(model) for model in args.models]), args.out, overwrite=args.force)
    except jomni.JomniError as error:
        parser.exit(2, f"{error}\n")
    print(f"{args.out}: the mean of {len(args.models)} models")


if __name__ == "__main__":
    main()
