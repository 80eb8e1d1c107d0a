"""Time Whisper's log-mel and encoder for 30 s of audio on a CPU in jomni and openai-whisper, alternating, in float32.

Both read the same random weights from one file in OpenAI's layout. Prints the median and the minimum of the seconds of
each part, and the largest difference of the outputs.

    python -m tools.bench.whisper                        # needs the `peers` extra; the size "small"
    python -m tools.bench.whisper --size tiny --batch 4
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
from typing import Any, NamedTuple

import numpy as np

import jomni
from tools.bench.mimi_stream import processor

_DIMS = ("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")  # in the order of `AudioEncoder`
PAUSE = 0.3  # seconds before a turn, until the other implementation's threads are idle


class Side(NamedTuple):
    """Functions of one implementation."""

    log_mel: Callable[[np.ndarray], Any]  # pcm [B, T] -> features
    encode: Callable[[Any], np.ndarray]  # features -> vectors [B, 1500, D]


def ours(file: Path) -> Side:
    """Return jomni's functions."""
    import jax

    checkpoint = jomni.load(file)
    encoder, params = jomni.WhisperEncoder(checkpoint.configs["whisper"]), checkpoint.params["whisper"]
    n_mels = encoder.config.n_mels
    return Side(
        lambda pcm: jax.block_until_ready(jomni.log_mel(pcm, n_mels)),
        lambda mel: np.asarray(jomni.embed_audio(encoder, params, mel)),
    )


def theirs(file: Path) -> Side:
    """Return openai-whisper's functions; its log-mel takes one recording at a time."""
    import torch
    import whisper
    from whisper.model import AudioEncoder

    torch.set_grad_enabled(False)
    held = torch.load(file)
    dims = held["dims"]
    encoder = AudioEncoder(*(dims[name] for name in _DIMS)).eval()
    encoder.load_state_dict({name.removeprefix("encoder."): x for name, x in held["model_state_dict"].items()})
    return Side(
        lambda pcm: torch.stack([whisper.log_mel_spectrogram(whisper.pad_or_trim(row), dims["n_mels"]) for row in pcm]),
        lambda mel: encoder(mel).numpy(),
    )


def write(file: Path, size: str) -> None:
    """Write a checkpoint in OpenAI's layout with random weights of the encoder."""
    import torch

    from jomni.models.whisper import weights as whisper_weights
    from tools.goldens import draw

    config = jomni.WHISPER[size]
    shapes = {
        tensor.name: tensor.shape
        for tensor in whisper_weights.weight_map("openai").expect(whisper_weights.abstract_params(config))
    }
    state = {name: torch.from_numpy(x) for name, x in draw.weights(shapes, 0).items()}
    torch.save({"dims": config.to_openai(), "model_state_dict": state}, file)


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=jomni.WHISPER)
    parser.add_argument("--turns", type=int, default=7, help="timed turns of each implementation")
    parser.add_argument("--batch", type=int, default=1, help="recordings at once")
    parser.add_argument("--threads", type=int, default=2, help="cores used by each implementation")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before jax counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])

    import torch

    from tools.goldens import draw

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt"
        write(file, args.size)
        sides = {"jomni": ours(file), "openai-whisper": theirs(file)}
    pcm = draw.audio(0, args.batch, 1, 30 * 16_000, 16_000)[:, 0]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    outputs: dict[str, np.ndarray] = {}
    for turn in range(args.turns + 1):  # the first turn warms up
        for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
            time.sleep(PAUSE)
            start = time.perf_counter()
            mel = side.log_mel(pcm)
            middle = time.perf_counter()
            outputs[name] = side.encode(mel)
            end = time.perf_counter()
            if turn:
                times[name].append((middle - start, end - middle))
    for name, found in times.items():
        for part, seconds in zip(("log-mel", "encoder"), np.array(found).T, strict=True):
            print(f"{name:16}{part:9} median {np.median(seconds):7.3f} s, fastest {seconds.min():7.3f} s")
    mine, original = (outputs[name] for name in sides)
    print(f"largest difference {np.abs(mine - original).max():.1e}, standard deviation {original.std():.2f}")
    print(f"Whisper {args.size}, 30 s, batch {args.batch}, {args.turns} turns each")
    releases = {name: version(name) for name in ("jax", "torch", "openai-whisper", "jomni")}
    print(", ".join(f"{k} {v}" for k, v in releases.items()) + f", python {platform.python_version()}")
    print(f"{processor()}, {args.threads} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
