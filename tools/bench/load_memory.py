"""Measure the peak of anonymous host memory while a checkpoint with Moshi-7B's names and shapes is loaded in bf16.

Writes the file (about 15 GB) tensor by tensor, loads it with `jomni.load` in another process while sampling its RssAnon
(which does not include pages of mapped files), prints the figures and removes the file.

    python tools/bench/load_memory.py --dir /tmp            # needs 16 GB of disk and 17 GB of memory
    python tools/bench/load_memory.py --dir /tmp --layers 4  # a quarter of that
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np

GIB = 2**30
_LOAD = """
import sys, time
import jax, jomni
from jomni.models.moshi import weights as moshi_weights
moshi_weights.abstract_params(jomni.MOSHI_7B)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
checkpoint = jomni.load(sys.argv[1], dtype=sys.argv[2])
size = sum(leaf.nbytes for leaf in jax.tree.leaves(checkpoint.params))
print(size, time.perf_counter() - start, flush=True)
sys.stdin.readline()
"""


def write_model(folder: Path, layers: int | None = None) -> int:
    """Write config.json and model.safetensors in bf16; return the bytes of weights."""
    from jomni.models.moshi import MOSHI_7B
    from jomni.models.moshi import weights as moshi_weights
    from jomni.tensors.source import TensorSpec
    from jomni.tensors.write import write_safetensors

    config = MOSHI_7B if layers is None else dataclasses.replace(MOSHI_7B, num_layers=layers)
    kind = np.dtype(ml_dtypes.bfloat16)
    specs = {
        t.name: TensorSpec(t.shape, kind)
        for t in moshi_weights.weight_map(config).expect(moshi_weights.abstract_params(config))
    }
    pattern = np.random.default_rng(0).standard_normal(1 << 20, np.float32).astype(kind)
    write_safetensors(folder / "model.safetensors", specs, lambda name: np.resize(pattern, specs[name].shape))
    (folder / "config.json").write_text(json.dumps(config.to_kyutai()))
    return sum(int(np.prod(spec.shape)) * kind.itemsize for spec in specs.values())


def anonymous_bytes(pid: int) -> int:
    """Return the bytes of a process's anonymous pages in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(folder: Path, dtype: str = "bfloat16") -> dict[str, float]:
    """Load in another process; return the bytes before, at the peak and after, the parameters' bytes, and seconds."""
    command = [sys.executable, "-c", _LOAD, str(folder), dtype]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    with child:
        if child.stdout.readline() != "ready\n":
            raise SystemExit("the loading process failed to start")
        base = peak = anonymous_bytes(child.pid)
        child.stdin.write("go\n")
        child.stdin.flush()
        answer: list[str] = []
        reader = threading.Thread(target=lambda: answer.append(child.stdout.readline()))  # type: ignore[union-attr]
        reader.start()
        while reader.is_alive():
            peak = max(peak, anonymous_bytes(child.pid))
            reader.join(0.002)
        if not answer[0]:
            raise SystemExit("the loading process failed")
        after = anonymous_bytes(child.pid)
        size, seconds = answer[0].split()
        child.stdin.close()
    return {"loaded": int(size), "base": base, "peak": peak, "after": after, "seconds": float(seconds)}


def main() -> None:
    """Write the file, measure, print the figures and remove the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="folder for the temporary file")
    parser.add_argument("--layers", type=int, help="temporal layers, for a smaller run (default: all 32)")
    parser.add_argument("--dtype", default="bfloat16", help="dtype to load in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        start = time.perf_counter()
        size = write_model(Path(folder), args.layers)
        print(f"wrote {size / GIB:.2f} GiB in {time.perf_counter() - start:.0f} s", flush=True)
        found = measure(Path(folder), args.dtype)
    import jax

    print(f"loaded parameters   {found['loaded'] / GIB:8.3f} GiB in {args.dtype}, {found['seconds']:.1f} s")
    print(f"anonymous, before   {found['base'] / GIB:8.3f} GiB (interpreter, JAX)")
    print(f"anonymous, peak     {found['peak'] / GIB:8.3f} GiB")
    print(f"anonymous, after    {found['after'] / GIB:8.3f} GiB")
    print(f"peak / loaded       {found['peak'] / found['loaded']:8.4f}  (limit 1.2)")
    versions = f"jax {jax.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    print(f"{versions}; {platform.machine()} CPU, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
