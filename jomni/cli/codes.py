"""`jomni encode` and `jomni decode`: a recording to codes and back, block by block in constant memory."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import numpy as np

from jomni import audio
from jomni.cli import snac_codes
from jomni.cli.console import meter, say, say_recording, working
from jomni.cli.files import Codes, check_rates, output_file, read_codes, write_codes
from jomni.cli.model import chosen_codebooks, codec_of, device, load_codec, open_model
from jomni.errors import AudioError, OutputError

if TYPE_CHECKING:
    from jomni.models.mimi.config import MimiConfig

BLOCK = 25
"""Frames of one step, 2 s: long enough to keep the hardware busy, short enough to show progress."""


def encode(options: Namespace) -> None:
    """Runs `jomni encode`."""
    if options.output.suffix != ".npz":
        raise OutputError(f"{options.output}: codes are written as .npz. Give the output that ending.")
    info = audio.inspect(options.input)
    with output_file(options.output, force=options.force, inputs=[options.input]) as part:
        opened = open_model(options.model, codec_only=True)
        if "snac" in opened.configs:
            snac_codes.encode(options, opened.configs["snac"], info, part)
            return
        config = codec_of(opened)
        codebooks = chosen_codebooks(opened, options.codebooks, options.model)
        say_recording(info, config.sample_rate)
        with device(options.device):
            codes = _encode(options, config, codebooks, info)
        samples = info.samples_at(config.sample_rate)
        write_codes(part, Codes(codes, config.frame_rate, config.sample_rate, samples, options.model))
    say(f"{options.output}: {codes.shape[0]} codebooks by {codes.shape[1]} frames at {config.frame_rate:g} Hz")


def _encode(options: Namespace, config: MimiConfig, codebooks: int, info: audio.AudioInfo) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    import jomni

    samples = info.samples_at(config.sample_rate)
    block = BLOCK * config.frame_size
    with working(f"loading and compiling {options.model}"):
        params = jomni.fold_codebooks(load_codec(options.model).params["mimi"])
        mimi = jomni.Mimi(config, codebooks)
        silence = jnp.zeros((1, 1, block))
        jax.block_until_ready(jomni.encode_step(mimi, params, mimi.init_encode_state(1, frames=BLOCK), silence))
    state = mimi.init_encode_state(1, frames=BLOCK)
    found = []
    with meter("encoding", samples / config.sample_rate) as progress:
        for piece in audio.blocks(info, config.sample_rate, block):
            # The last block is completed with silence, so that one compiled step serves all; what follows the
            # recording cannot change the frames before it.
            pcm = np.pad(piece, (0, block - len(piece)))[None, None]
            state, codes = jomni.encode_step(mimi, params, state, jnp.asarray(pcm))
            found.append(np.asarray(codes[0]))
            progress.done(len(piece) / config.sample_rate)
    say(f"encoded {progress}")
    return np.concatenate(found, axis=1)[:, : -(-samples // config.frame_size)]


def decode(options: Namespace) -> None:
    """Runs `jomni decode`."""
    audio.check_format(options.output)
    given = read_codes(options.input)
    with output_file(options.output, force=options.force, inputs=[options.input]) as part:
        opened = open_model(options.model, codec_only=True)
        if "snac" in opened.configs:
            snac_codes.decode(options, opened.configs["snac"], given, part)
            return
        config = codec_of(opened)
        check_codes(options, given, config)
        with device(options.device), audio.AudioWriter(part, config.sample_rate, options.output) as writer:
            _decode(options, config, given, writer)
    clipped = f"; {writer.clipped} samples beyond full scale were limited to it" if writer.clipped else ""
    say(f"{options.output}: {writer.num_samples / config.sample_rate:.2f} s at {config.sample_rate} Hz{clipped}")


def check_codes(options: Namespace, given: Codes, config: MimiConfig) -> None:
    """Raises `AudioError` unless the codec can decode the codes."""
    q, codes = config.quantizer, given.codes
    if isinstance(codes, tuple):
        raise AudioError(
            f"{options.input}: holds codes of {len(codes)} rates, as SNAC makes them, but the codec of {options.model} "
            "has one. Give the model that made the codes."
        )
    if not q.n_q_semantic <= codes.shape[0] <= q.n_q:
        raise AudioError(
            f"{options.input}: has {codes.shape[0]} codebooks, but the codec of {options.model} takes {q.n_q_semantic} "
            f"to {q.n_q}. Encode with --codebooks {q.n_q} or fewer, or give the model that made the codes."
        )
    if codes.max() >= q.bins:
        book, frame = np.argwhere(codes >= q.bins)[0]
        raise AudioError(
            f"{options.input}: the code {codes[book, frame]} (codebook {book}, frame {frame}) is out of range: those "
            f"of {options.model} go from 0 to {q.bins - 1}. Give the model that made the codes."
        )
    check_rates(options.input, given, config.frame_rate, config.sample_rate, options.model)
    frames = codes.shape[1]
    if given.num_samples is not None and not frames - 1 < given.num_samples / config.frame_size <= frames:
        raise AudioError(
            f"{options.input}: says that {frames} frames hold {given.num_samples} samples, which cannot be at "
            f"{config.frame_size} samples a frame. Correct or remove 'num_samples'."
        )


def _decode(options: Namespace, config: MimiConfig, given: Codes, writer: audio.AudioWriter) -> None:
    import jax
    import jax.numpy as jnp

    import jomni

    assert isinstance(given.codes, np.ndarray)
    if given.model and given.model != options.model:
        say(f"{options.input}: the codes were made with {given.model}, decoding with {options.model}")
    left = given.num_samples or given.codes.shape[1] * config.frame_size
    with working(f"loading and compiling {options.model}"):
        params = jomni.fold_codebooks(load_codec(options.model).params["mimi"])
        mimi = jomni.Mimi(config, given.codes.shape[0])
        zeros = jnp.zeros((1, given.codes.shape[0], BLOCK), jnp.int32)
        jax.block_until_ready(jomni.decode_step(mimi, params, mimi.init_decode_state(1, frames=BLOCK), zeros))
    state = mimi.init_decode_state(1, frames=BLOCK)
    with meter("decoding", left / config.sample_rate) as progress:
        for first in range(0, given.codes.shape[1], BLOCK):
            codes = given.codes[:, first : first + BLOCK]
            codes = np.pad(codes, ((0, 0), (0, BLOCK - codes.shape[1])))[None]  # as in `_encode`
            state, pcm = jomni.decode_step(mimi, params, state, jnp.asarray(codes))
            piece = np.asarray(pcm[0, 0], np.float32)[:left]
            writer.write(piece)
            left -= len(piece)
            progress.done(len(piece) / config.sample_rate)
    say(f"decoded {progress}")
