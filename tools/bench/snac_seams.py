"""Compare chunked SNAC decoding of the original, which decodes chunks independently, with jomni's streaming.

Both decode the same codes with the same noise. Prints the largest difference from the original's decoding of the whole,
relative to its RMS, and plots the waveforms around a boundary of chunks and the differences over time.

    python -m tools.bench.snac_seams seams.png                          # needs the `peers` extra and the package snac
    python -m tools.bench.snac_seams seams.png --model nano_snac --audio jomni/assets/samples/opposite.wav

The default model is snac_24khz with seeded random weights, which has the receptive field of the trained one. The
default audio is synthetic.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import torch

import jomni
from jomni import audio
from jomni.models.snac import model as snac
from jomni.models.snac.config import SNAC_24KHZ
from jomni.models.snac.model import Snac
from tools.goldens import draw
from tools.goldens import snac as peer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Codes = Sequence[np.ndarray]


def chunks(config: jomni.SnacConfig, codes: Codes, size: int) -> list[tuple[int, list[np.ndarray]]]:
    """Return (first frame, codes of `size` frames) of all chunks."""
    tokens = config.tokens_per_frame
    return [
        (first, [c[:, first * n : (first + size) * n] for c, n in zip(codes, tokens, strict=True)])
        for first in range(0, codes[0].shape[1], size)
    ]


def theirs(model: torch.nn.Module, config: jomni.SnacConfig, codes: Codes, noise: Codes, size: int) -> np.ndarray:
    """Return the concatenation of chunks that the original decodes independently, with the same noise."""
    out, frames = [], codes[0].shape[1]
    for first, piece in chunks(config, codes, size):
        share = [x[:, first * x.shape[1] // frames : (first + size) * x.shape[1] // frames] for x in noise]
        out.append(peer.decode(model, piece, share)[0, 0])
    return np.concatenate(out)


def ours(codec: Snac, params: dict, codes: Codes, keys: jax.Array, size: int) -> np.ndarray:
    """Return jomni's streamed audio, without the look-ahead at its beginning."""
    state, out = codec.init_decode_state(1), []
    for _, piece in chunks(codec.config, codes, size):
        state, pcm = snac.decode_step(codec, params, state, tuple(jnp.asarray(c) for c in piece), noise=keys)
        out.append(np.asarray(pcm[0, 0]))
    out.append(np.asarray(snac.decode_flush(codec, params, state, noise=keys)[1][0, 0]))
    return np.concatenate(out)[codec.config.look_ahead :]


def draw_figure(path: Path, rate: int, step: int, whole: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    """Plot the waveforms around the middle boundary, and the differences from the whole over time."""
    seam = step * max(1, len(whole) // step // 2)
    near = slice(max(0, seam - rate // 50), seam + rate // 50)
    figure, (top, bottom) = plt.subplots(2, figsize=(10, 6), layout="constrained")
    time = np.arange(len(whole)) / rate
    top.plot(1000 * (time[near] - seam / rate), whole[near], "k", lw=3, alpha=0.3, label="whole")
    for name, pcm in parts.items():
        top.plot(1000 * (time[near] - seam / rate), pcm[near], lw=1, label=name)
        bottom.semilogy(time, np.abs(pcm - whole) + 1e-9, lw=0.5, label=name)
    top.axvline(0, color="grey", ls=":")
    top.set(xlabel="ms from a seam", ylabel="sample")
    bottom.set(xlabel="s", ylabel="difference from the whole")
    for axes in (top, bottom):
        axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--model", help="a published folder, an export, or a bundled model")
    parser.add_argument("--audio", type=Path, help="a recording to encode")
    parser.add_argument("--chunk", type=int, default=4, help="frames of a chunk (default: 4, as in Mini-Omni)")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of audio (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        given, folder = Path(scratch, "given"), Path(scratch, "float32")
        if options.model is None:
            peer.write(given, SNAC_24KHZ.to_published(), 0)
        checkpoint = jomni.load(options.model or given)
        jomni.save(checkpoint, folder, dtype=jnp.float32)
        model = peer.load(folder)
        config, params = checkpoint.configs["snac"], jomni.fold_weight_norm(checkpoint.params["snac"])
    assert config is not None
    rate, unit = config.sampling_rate, options.chunk * config.frame_size
    samples = max(2, round(options.seconds * rate / unit)) * unit
    if options.audio is None:
        pcm = draw.audio(0, 1, 1, samples, rate)
    else:
        pcm = audio.read(options.audio, rate)[None, None, :samples]
        pcm = np.pad(pcm, ((0, 0), (0, 0), (0, -pcm.shape[-1] % unit)))
    codes, _ = peer.encode(model, pcm)
    keys, noise, steps = jax.random.split(jax.random.key(0), 1), [], codes[-1].shape[1] * config.vq_strides[-1]
    for stage, stride in enumerate(config.decoder_rates if config.noise else ()):
        steps *= stride
        noise.append(np.asarray(snac.noise_at(keys, stage, jnp.arange(steps)[None])))
    whole = peer.decode(model, codes, noise)[0, 0]
    parts = {
        "snac, each chunk on its own": theirs(model, config, codes, noise, options.chunk),
        "jomni, streaming": ours(Snac(config), params, codes, keys, options.chunk),
    }
    print(
        f"{len(whole) / rate:.2f} s in chunks of {options.chunk} frames ({unit} samples); look-ahead "
        f"{config.look_ahead} samples; jax {version('jax')}, torch {version('torch')}, snac {version('snac')}, "
        f"{platform.machine()}"
    )
    for name, pcm in parts.items():
        error = np.abs(pcm - whole) / np.sqrt(np.mean(np.square(whole)))
        print(f"{name}: largest difference from the original's whole {error.max():.1e} of the RMS")
    draw_figure(options.figure, rate, unit, whole, parts)


if __name__ == "__main__":
    main()
