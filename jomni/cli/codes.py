"""`jomni encode` and `jomni decode`: a recording to codes and back, block by block in constant memory."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jomni import audio
from jomni.cli.arguments import Parser, add_device, add_force, add_model, whole
from jomni.cli.codes_file import Codes, check_codes, read_codes, write_codes
from jomni.cli.console import meter, say, say_recording, working
from jomni.cli.files import output_file
from jomni.cli.model import codec_of, device, load_codec, open_model
from jomni.errors import OutputError

if TYPE_CHECKING:
    from jomni.models.codec import Codec

SECONDS = 2.0
"""Of one step, or as many whole frames as that holds: long enough to keep the hardware busy, short enough to show
progress."""


def encode_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni encode`."""
    parser.description = """\
Turns a recording into codes, in constant memory however long it is.
Any sampling rate, number of channels and format that libsndfile reads is taken (WAV, FLAC, OGG, MP3, AIFF, ...);
it is mixed down to one channel and resampled to the codec's rate, and the output says so."""
    parser.epilog = """\
OUT.npz holds codes (int32, codebooks by frames), frame_rate and sample_rate (Hz), num_samples (at sample_rate,
so that decoding can end where the recording did) and model. Of SNAC, whose codebooks have different rates, it holds
codes_0, codes_1, ... (int32, coarse to fine) in place of codes.

Example:
  jomni encode question.mp3 question.npz --model kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("input", metavar="IN.wav", type=Path, help="the recording")
    parser.add_argument("output", metavar="OUT.npz", type=Path, help="where the codes go")
    add_model(parser)
    parser.add_argument(
        "--codebooks", metavar="N", type=whole(1),
        help="how many codebooks, coarse to fine (default: as many as the model uses, 8 for Mimi alone, all for SNAC)",
    )  # fmt: skip
    add_device(parser)
    add_force(parser)


def encode(options: Namespace) -> None:
    """Run `jomni encode`."""
    if options.output.suffix != ".npz":
        raise OutputError(f"{options.output}: codes are written as .npz. Give the output that ending.")
    info = audio.inspect(options.input)
    with output_file(options.output, force=options.force, inputs=[options.input]) as part:
        opened = open_model(options.model, codec_only=True)
        name, codec = codec_of(opened, options.codebooks)
        say_recording(info, codec.sample_rate)
        with device(options.device):
            codes, frames = _encode(options, name, codec, info)
        samples = info.samples_at(codec.sample_rate)
        write_codes(part, Codes(codes, codec.frame_rate, codec.sample_rate, samples, options.model))
    levels = list(codes) if isinstance(codes, tuple) else [codes]
    rates = ", ".join(f"{codec.frame_rate * level.shape[-1] / frames:.4g}" for level in levels)
    count = len(levels) if isinstance(codes, tuple) else len(codes)
    say(f"{options.output}: {count} codebooks at {rates} Hz, {frames} frames")


def decode_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni decode`."""
    parser.description = "Turns codes back into audio, in constant memory however long they are."
    parser.epilog = """\
The codes are those of 'jomni encode', or any npz file with an integer array 'codes' (codebooks by frames); their
number of codebooks may be anything up to the codec's. For SNAC: 'codes_0', 'codes_1', ..., all of its codebooks.
Samples beyond full scale are limited, and counted.

Example:
  jomni decode question.npz question-decoded.wav \\
      --model kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("input", metavar="IN.npz", type=Path, help="the codes")
    parser.add_argument("output", metavar="OUT.wav", type=Path, help="the audio, 16-bit, ending in .wav or .flac")
    add_model(parser)
    add_device(parser)
    add_force(parser)


def decode(options: Namespace) -> None:
    """Run `jomni decode`."""
    audio.check_format(options.output)
    given = read_codes(options.input)
    with output_file(options.output, force=options.force, inputs=[options.input]) as part:
        opened = open_model(options.model, codec_only=True)
        name, codec = codec_of(opened)
        check_codes(options.input, given, codec, options.model)
        if not isinstance(given.codes, tuple):
            codec = codec.with_codebooks(len(given.codes))
        with device(options.device), audio.AudioWriter(part, codec.sample_rate, options.output) as writer:
            _decode(options, name, codec, given, writer)
    clipped = f"; {writer.clipped} samples beyond full scale were limited to it" if writer.clipped else ""
    say(f"{options.output}: {writer.num_samples / codec.sample_rate:.2f} s at {codec.sample_rate} Hz{clipped}")


def _encode(options: Namespace, name: str, codec: Codec, info: audio.AudioInfo) -> tuple[Any, int]:
    """Return the codes of a recording, one row, and the number of frames."""
    import jax
    import jax.numpy as jnp

    samples, size, delay = info.samples_at(codec.sample_rate), codec.frame_size, codec.encode_delay
    frames, block = _whole(codec, -(-samples // size)), _block(codec)
    # A codec that looks ahead must end where the whole would. For others the last block is completed with silence, so
    # that one compiled step serves all: what follows the recording cannot change the frames before it.
    sizes = [block] * (frames // block) + ([frames % block if delay else block] if frames % block else [])
    with working(f"loading and compiling {options.model}"):
        params = codec.prepare(load_codec(options.model).params[name])
        silence = jnp.zeros((1, 1, sizes[0] * size))
        jax.block_until_ready(codec.encode_step(params, codec.init_encode_state(1, block), silence))
    state, found = codec.init_encode_state(1, block), list[Any]()
    with meter("encoding", samples / codec.sample_rate) as progress:
        for piece, count in zip(audio.blocks(info, codec.sample_rate, block * size), sizes, strict=True):
            pcm = np.pad(piece, (0, count * size - len(piece)))[None, None]
            state, codes = codec.encode_step(params, state, jnp.asarray(pcm))
            found.append(jax.device_get(codes))
            progress.done(len(piece) / codec.sample_rate)
        found.append(jax.device_get(codec.encode_flush(params, state)[1]))
    say(f"encoded {progress}")
    fed = sum(sizes) + delay

    def row(*pieces: np.ndarray) -> np.ndarray:
        joined = np.concatenate([piece[0] for piece in pieces], -1)
        tokens = joined.shape[-1] // fed  # of a frame
        return joined[..., delay * tokens : (delay + frames) * tokens]  # a stream that runs late begins with nothing

    return jax.tree.map(row, *found), frames


def _decode(options: Namespace, name: str, codec: Codec, given: Codes, writer: audio.AudioWriter) -> None:
    import jax
    import jax.numpy as jnp

    if given.model and given.model != options.model:
        say(f"{options.input}: the codes were made with {given.model}, decoding with {options.model}")
    size, block, late = codec.frame_size, _block(codec), codec.decode_delay
    frames = given.codes[0].shape[-1]
    left = given.num_samples or frames * size
    sizes = [block] * (frames // block) + ([frames % block if late else block] if frames % block else [])

    def piece(first: int, count: int) -> Any:
        """Return frames of the codes; what is missing at the end is completed with zeros, as in `_encode`."""

        def cut(codes: np.ndarray) -> Any:
            tokens = codes.shape[-1] // frames
            held = codes[..., first * tokens : (first + count) * tokens]
            width = [(0, 0)] * (held.ndim - 1) + [(0, count * tokens - held.shape[-1])]
            return jnp.asarray(np.pad(held, width))[None]

        return jax.tree.map(cut, given.codes)

    def pieces() -> Iterator[np.ndarray]:
        """Yield the samples that each step gives, and then those that are outstanding."""
        state, first = codec.init_decode_state(1, block), 0
        for count in sizes:
            state, pcm = codec.decode_step(params, state, piece(first, count))
            first += count
            yield np.asarray(pcm[0, 0], np.float32)
        yield np.asarray(codec.decode_flush(params, state)[1][0, 0], np.float32)

    with working(f"loading and compiling {options.model}"):
        params = codec.prepare(load_codec(options.model).params[name])
        jax.block_until_ready(codec.decode_step(params, codec.init_decode_state(1, block), piece(0, sizes[0])))
    with meter("decoding", left / codec.sample_rate) as progress:
        for ready in pieces():
            skipped, late = min(late, len(ready)), max(0, late - len(ready))
            ready = ready[skipped:][:left]
            writer.write(ready)
            left -= len(ready)
            progress.done(len(ready) / codec.sample_rate)
    say(f"decoded {progress}")


def _block(codec: Codec) -> int:
    """Return the frames of one step."""
    return _whole(codec, max(1, round(SECONDS * codec.frame_rate)))


def _whole(codec: Codec, frames: int) -> int:
    """Return the least multiple of the codec's block that holds so many frames."""
    return -(-frames // codec.frame_multiple) * codec.frame_multiple
