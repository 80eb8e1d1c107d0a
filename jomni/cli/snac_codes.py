"""`jomni encode` and `jomni decode` with SNAC: codes of several rates, block by block in constant memory."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni import audio
from jomni.cli.console import meter, say, say_recording, working
from jomni.cli.files import Codes, check_rates, write_codes
from jomni.cli.model import device, load_codec
from jomni.errors import AudioError

if TYPE_CHECKING:
    from jomni.models.snac.config import SnacConfig

SECONDS = 2.0
"""Of one step, or as many whole frames as that holds."""


def encode(options: Namespace, config: SnacConfig, info: audio.AudioInfo, part: Path) -> None:
    """Encodes a recording into the file `part`."""
    if options.codebooks not in (None, config.num_codebooks):
        raise AudioError(
            f"--codebooks {options.codebooks}: SNAC takes and gives all of its {config.num_codebooks} codebooks. "
            "Leave the option out."
        )
    say_recording(info, config.sampling_rate)
    with device(options.device):
        codes = _encode(options, config, info)
    samples = info.samples_at(config.sampling_rate)
    write_codes(part, Codes(codes, config.frame_rate, config.sampling_rate, samples, options.model))
    rates = ", ".join(f"{config.frame_rate * n:.4g}" for n in config.tokens_per_frame)
    say(f"{options.output}: {len(codes)} codebooks at {rates} Hz, {len(codes[0])} frames")


def _encode(options: Namespace, config: SnacConfig, info: audio.AudioInfo) -> tuple[np.ndarray, ...]:
    import jax
    import jax.numpy as jnp

    import jomni
    from jomni.models.snac import model as snac

    samples = info.samples_at(config.sampling_rate)
    frames, block = config.whole_frames(-(-samples // config.frame_size)), _block(config) * config.frame_size
    with working(f"loading {options.model}"):
        params = jomni.fold_weight_norm(load_codec(options.model).params["snac"])
        codec = jomni.Snac(config)
    left = frames * config.frame_size
    state, found = codec.init_encode_state(1), list[Any]()
    with meter("encoding", samples / config.sampling_rate) as progress:
        for piece in audio.blocks(info, config.sampling_rate, block):
            # The last step may be shorter, so that the stream ends where the whole would.
            pcm = np.pad(piece, (0, min(block, left) - len(piece)))[None, None]
            left -= pcm.shape[-1]
            state, codes = snac.encode_step(codec, params, state, jnp.asarray(pcm))
            found.append(jax.device_get(codes))
            progress.done(len(piece) / config.sampling_rate)
        found.append(jax.device_get(snac.encode_flush(codec, params, state)[1]))
    say(f"encoded {progress}")
    joined = (np.concatenate([codes[k][0] for codes in found]) for k in range(config.num_codebooks))
    # The first frames that a stream gives mean nothing: it runs late.
    tokens = zip(joined, config.tokens_per_frame, strict=True)
    return tuple(x[config.encode_delay * n : (config.encode_delay + frames) * n] for x, n in tokens)


def decode(options: Namespace, config: SnacConfig, given: Codes, part: Path) -> None:
    """Decodes the codes into the audio file `part`. The noise is that of key 0, the same at every call."""
    codes = checked(options, config, given)
    with device(options.device), audio.AudioWriter(part, config.sampling_rate, options.output) as writer:
        _decode(options, config, given, codes, writer)
    say(f"{options.output}: {writer.num_samples / config.sampling_rate:.2f} s at {config.sampling_rate} Hz")


def checked(options: Namespace, config: SnacConfig, given: Codes) -> tuple[np.ndarray, ...]:
    """The codes; raises `AudioError` unless the codec can decode them."""
    from jomni.models.snac import model as snac

    if not isinstance(given.codes, tuple):
        raise AudioError(
            f"{options.input}: holds codes of one rate ('codes'), but {options.model} is SNAC and takes "
            f"'codes_0' ... 'codes_{config.num_codebooks - 1}'. Give the model that made the codes."
        )
    try:
        snac.check_codes(config, tuple(c[None] for c in given.codes))
    except AudioError as error:
        raise AudioError(f"{options.input}: {error}") from None
    check_rates(options.input, given, config.frame_rate, config.sampling_rate, options.model)
    frames = len(given.codes[0])
    if given.num_samples is not None and frames != config.whole_frames(-(-given.num_samples // config.frame_size)):
        raise AudioError(
            f"{options.input}: says that {frames} frames hold {given.num_samples} samples, which cannot be at "
            f"{config.frame_size} samples a frame. Correct or remove 'num_samples'."
        )
    return given.codes


def _decode(
    options: Namespace, config: SnacConfig, given: Codes, codes: tuple[np.ndarray, ...], writer: audio.AudioWriter
) -> None:
    import jax
    import jax.numpy as jnp

    import jomni
    from jomni.models.snac import model as snac

    if given.model and given.model != options.model:
        say(f"{options.input}: the codes were made with {given.model}, decoding with {options.model}")
    frames, block, tokens = len(codes[0]), _block(config), config.tokens_per_frame
    samples = given.num_samples or frames * config.frame_size
    with working(f"loading {options.model}"):
        params = jomni.fold_weight_norm(load_codec(options.model).params["snac"])
        codec, key = jomni.Snac(config), jax.random.split(jax.random.key(0), 1)
    state, late, left = codec.init_decode_state(1), config.look_ahead, samples
    whole = frames - frames % block  # then a shorter step, so that the stream ends where the codes do
    steps = [*range(0, whole, block), *([whole] if whole < frames else []), None]
    with meter("decoding", samples / config.sampling_rate) as progress:
        for first in steps:
            if first is None:
                pcm = snac.decode_flush(codec, params, state, key)[1]
            else:
                last = min(first + block, frames)
                piece = tuple(jnp.asarray(c[None, first * n : last * n]) for c, n in zip(codes, tokens, strict=True))
                state, pcm = snac.decode_step(codec, params, state, piece, key)
            ready = np.asarray(pcm[0, 0], np.float32)
            skipped, late = min(late, len(ready)), max(0, late - len(ready))
            ready = ready[skipped:][:left]
            writer.write(ready)
            left -= len(ready)
            progress.done(len(ready) / config.sampling_rate)
    say(f"decoded {progress}")


def _block(config: SnacConfig) -> int:
    """Frames of one step."""
    return config.whole_frames(max(1, round(SECONDS * config.frame_rate)))
