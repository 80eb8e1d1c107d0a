"""Time Mimi at full size frame by frame on a CPU in jomni and moshi PyTorch, alternating, in float32.

Both read the same file of seeded random weights in the published layout. They alternate after about a second of audio.
The first frame of a turn is not counted, nor the pause before it, in which the other implementation's threads become
idle. Prints the median and the 99th percentile of the milliseconds per frame (80 ms of audio), and the number of codes
that differ.

    python -m tools.bench.mimi_stream                       # needs the `peers` extra
    python -m tools.bench.mimi_stream --batch 4 --threads 4
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jomni.models.mimi.config import MIMI

TURN = 13  # frames per turn, the first is a warm-up
PAUSE = 0.3  # seconds before a turn


class Side(NamedTuple):
    """Streaming functions of one implementation."""

    encode: Callable[[np.ndarray], np.ndarray]  # pcm [B, 1, 1920] -> codes [B, K, 1]
    decode: Callable[[np.ndarray], np.ndarray]  # codes [B, K, 1] -> pcm [B, 1, 1920]


def ours(folder: Path, batch: int, codebooks: int) -> Side:
    """Return jomni's functions, with the original's ring convention, which makes the codes comparable."""
    import jax

    import jomni

    checkpoint = jomni.load(folder / "mimi.safetensors")
    mimi = jomni.Mimi(checkpoint.configs["mimi"], codebooks)
    params = jomni.fold_codebooks(checkpoint.params["mimi"])
    state = {
        "encode": mimi.init_encode_state(batch, ring="kyutai"),
        "decode": mimi.init_decode_state(batch, ring="kyutai"),
    }

    def encode(pcm: np.ndarray) -> np.ndarray:
        state["encode"], codes = jomni.encode_step(mimi, params, state["encode"], pcm)
        return np.asarray(jax.block_until_ready(codes))

    def decode(codes: np.ndarray) -> np.ndarray:
        state["decode"], pcm = jomni.decode_step(mimi, params, state["decode"], codes)
        return np.asarray(jax.block_until_ready(pcm))

    return Side(encode, decode)


def theirs(folder: Path, batch: int, codebooks: int) -> Side:
    """Return moshi PyTorch's functions."""
    import torch

    from tools.goldens import kyutai

    torch.set_grad_enabled(False)
    model = kyutai.load_mimi(folder, codebooks)
    model.streaming_forever(batch)
    return Side(
        lambda pcm: model.encode(torch.from_numpy(pcm)).numpy(),
        lambda codes: model.decode(torch.from_numpy(codes)).numpy(),
    )


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300, help="timed frames of each implementation")
    parser.add_argument("--batch", type=int, default=1, help="streams per step")
    parser.add_argument("--threads", type=int, default=2, help="cores used by each implementation")
    parser.add_argument("--codebooks", type=int, default=8)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before jax counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])

    import torch

    from tools.goldens import draw, kyutai, layout

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        layout.write_mimi(Path(folder), MIMI.to_kyutai(), kyutai.mimi_manifest(MIMI.to_kyutai()), 0)
        sides = {
            name: make(Path(folder), args.batch, args.codebooks)
            for name, make in (("jomni", ours), ("moshi PyTorch", theirs))
        }
    turns = -(-args.frames // (TURN - 1)) + 1  # the first turn warms up
    pcm = draw.audio(0, args.batch, 1, turns * TURN * MIMI.frame_size, MIMI.sample_rate)
    frames = np.split(pcm, turns * TURN, -1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    codes: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    for turn in range(turns):
        for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
            time.sleep(PAUSE)
            for i, frame in enumerate(frames[turn * TURN : (turn + 1) * TURN]):
                start = time.perf_counter()
                codes[name].append(side.encode(frame))
                middle = time.perf_counter()
                side.decode(codes[name][-1])
                end = time.perf_counter()
                if turn and i:
                    times[name].append((middle - start, end - middle))
    for name, found in times.items():
        encode, decode = 1e3 * np.array(found).T
        for part, ms in (("encode", encode), ("decode", decode), ("both", encode + decode)):
            print(f"{name:14}{part:7} median {np.median(ms):6.1f} ms, p99 {np.percentile(ms, 99):6.1f} ms a frame")
    mine, original = (np.concatenate(codes[name], -1) for name in sides)
    differing = f"{(mine != original).sum()} of {mine.size} codes differ ({len(np.unique(original))} values)"
    print(f"{len(found)} frames each, batch {args.batch}, {args.codebooks} codebooks; {differing}")
    releases = {name: version(name) for name in ("jax", "torch", "moshi", "jomni")}
    print(", ".join(f"{k} {v}" for k, v in releases.items()) + f", python {platform.python_version()}")
    print(f"{processor()}, {args.threads} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def processor() -> str:
    """Return the CPU's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
