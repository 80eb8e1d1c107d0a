"""Give a language model another codec with the same codes, such as one whose decoder was trained further.

python -m tools.join_codec runs/nano_lm/export runs/nano_decoder/export runs/nano
"""

from __future__ import annotations

import argparse
import dataclasses

import jomni
from jomni.cli.tokenize import codec_identity


def main() -> None:
    """Loads both, compares what decides their codes, and writes the model with its new codec."""
    parser = argparse.ArgumentParser(prog="python -m tools.join_codec", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the language model, with its codec")
    parser.add_argument("codec", help="the other codec")
    parser.add_argument("out", help="folder for the model with it")
    args = parser.parse_args()
    model, codec = jomni.load(args.model), jomni.load(args.codec, parts=("mimi",))
    if model.lm is None or model.mimi is None or codec.mimi is None:
        parser.exit(1, f"{args.model} and {args.codec}: wanted a model with a codec, and a codec\n")
    if codec_identity(model.mimi, model.params["mimi"]) != codec_identity(codec.mimi, codec.params["mimi"]):
        parser.exit(1, f"{args.codec}: its codes are not those of the codec of {args.model}\n")
    joined = dataclasses.replace(model, mimi=codec.mimi, params={**model.params, "mimi": codec.params["mimi"]})
    jomni.save(joined, args.out, overwrite=True)


if __name__ == "__main__":
    main()
