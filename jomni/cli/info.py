"""`jomni info` and `jomni convert`: what a model consists of, and another form of it."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jomni.cli.console import say
from jomni.cli.files import check_folder
from jomni.cli.model import device, local_path, open_model, split_revision, used_codebooks

if TYPE_CHECKING:
    from jomni.checkpoints.detect import Opened
    from jomni.models.decoder.config import DecoderConfig
    from jomni.models.mimi.config import MimiConfig
    from jomni.models.mini_omni.config import MiniOmniConfig
    from jomni.models.moshi.config import MoshiConfig
    from jomni.models.snac.config import SnacConfig
    from jomni.models.whisper import WhisperConfig
    from jomni.tensors.source import TensorSource

_KINDS = {
    "moshi": "Moshi, full-duplex dialogue", "mimi": "Mimi, a codec", "snac": "SNAC, a codec of several rates",
    "hibiki": "Hibiki, simultaneous translation", "stt": "speech to text", "tts": "text to speech",
    "whisper": "Whisper, a speech encoder", "qwen2": "Qwen 2, a text decoder", "qwen3": "Qwen 3, a text decoder",
    "llama": "Llama, a text decoder", "gemma2": "Gemma 2, a text decoder", "gemma3_text": "Gemma 3, a text decoder",
    "mini-omni": "Mini-Omni, dialogue in turns",
}  # fmt: skip
_WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of a number

LM_PARTS = {
    "temporal transformer": ("transformer/",),
    "embeddings": ("emb_", "text_emb/"),
    "outputs": ("out_norm/", "text_linear/", "extra_heads_"),
    "depth transformer": ("depformer/",),
    "depth embeddings": ("depformer_emb_", "depformer_text_emb/", "depformer_in_"),
    "depth outputs": ("linears_", "depformer_norms_"),
    "conditioners": ("condition_provider/",),
}
"""Parts of the language model: where the paths of their parameters begin."""

DECODER_PARTS = {
    "layers": ("layers_",),
    "embedding": ("embed_tokens/",),
    "output": ("norm/", "lm_head/"),
}
"""Parts of a text decoder, likewise."""

OMNI_PARTS = {
    "backbone": ("backbone/layers_",),
    "embeddings and heads": ("backbone/embed_tokens/", "backbone/norm/", "backbone/lm_head/"),
    "speech adapter": ("whisper_adapter/",),
    "post-adapter": ("post_adapter/",),
}
"""Parts of Mini-Omni's language model, likewise."""

CODEC_PARTS = {
    "encoder": ("encoder", "downsample/"),
    "quantiser": ("quantizer/",),
    "decoder": ("decoder", "upsample/"),
}
"""Parts of the codec, likewise."""

ENCODER_PARTS = {
    "convolutions": ("conv1/", "conv2/"),
    "positions": ("positional_embedding",),
    "blocks": ("blocks_", "ln_post/"),
}
"""Parts of the speech encoder, likewise."""


def info(options: Namespace) -> None:
    """Runs `jomni info`."""
    with device("cpu"):
        for line in describe(open_model(options.model)):
            say(line)


def describe(opened: Opened) -> list[str]:
    """What a model consists of, line by line."""
    from jomni.checkpoints.registry import is_float32_only, present

    lines = [f"{opened.source}: {_KINDS.get(opened.model_type, opened.model_type)}"]
    sizes: dict[str, int] = {}
    for part, config in present(opened):
        title, groups, tell = _SECTIONS[part.name]
        held = _sizes(part.tree(config))
        sizes |= {f"{part.name}/{path}": size for path, size in held.items()}
        lines.append(f"{title}: {sum(held.values()):,} parameters{_stored(opened.sources.get(part.name))}")
        lines += _parts(held, groups) + tell(config, opened)
    if opened.lm is not None and opened.mimi is None:
        lines.append("codec: none beside it")
    if opened.omni is not None:
        absent = {"codec SNAC": opened.snac, "encoder Whisper": opened.whisper, "text tokenizer": _tokenizer(opened)}
        lines += [f"{name}: none beside it" for name, found in absent.items() if found is None]
    fixed = sum(size for path, size in sizes.items() if is_float32_only(path))
    rest = sum(sizes.values()) - fixed
    needs = ", ".join(f"{name} {human(4 * fixed + width * rest)}" for name, width in _WIDTHS.items())
    if opened.omni is not None:
        lines.append(f"weights take: {needs.rpartition(', int8')[0]} (the codec always float32)")
    elif opened.whisper is not None:
        lines.append(f"weights take: {needs.rpartition(', int8')[0]}")
    elif opened.decoder is not None:
        lines.append(f"weights take: {needs}")
    elif rest:
        lines.append(f"weights take: {needs} (codec and conditioners always float32)")
    else:
        lines.append(f"weights take: {human(4 * fixed)} (the codec is always float32)")
    return lines


def convert(options: Namespace) -> None:
    """Runs `jomni convert`."""
    check_folder(options.target, force=options.force, source=local_path(options.source))
    open_model(options.source)
    import jomni

    source, revision = split_revision(options.source)
    with device("cpu"):
        checkpoint = jomni.load(source, revision=revision)
        layout = options.to or checkpoint.layouts[0]
        jomni.save(
            checkpoint, options.target, layout=layout, dtype=options.dtype, overwrite=options.force,
            codec_dtype=options.codec_dtype,
        )  # fmt: skip
    dtype = f", {options.dtype}" if options.dtype else ""
    codec = f", the codec {options.codec_dtype}" if options.codec_dtype else ""
    count = f"{checkpoint.num_parameters():,} parameters"
    say(f"{options.target}: {count} of {options.source}, as {layout}{dtype}{codec}")


def human(count: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(max(count, 1)) // 3), len(units) - 1)
    return f"{count / 1000**power:.4g} {units[power]}"


def _lm_lines(lm: MoshiConfig, opened: Opened) -> list[str]:
    t, user, codec = lm.temporal, lm.delays[1 + lm.dep_q :], opened.mimi
    seconds = f" ({t.context / codec.frame_rate:g} s)" if t.context and codec else ""
    lines = [
        f"  temporal: {t.num_layers} layers, {t.dim} wide, {t.num_heads} heads, "
        f"context {'all frames' if t.context is None else f'{t.context} frames{seconds}'}"
    ]
    if lm.dep_q:
        d = lm.depth
        lines.append(f"  depth: {d.num_layers} layers, {d.dim} wide, {d.num_heads} heads, {lm.dep_q} steps a frame")
    lines.append(f"  streams: text of {lm.text_card} tokens, {lm.dep_q} codebooks spoken, {lm.user_q} heard")
    delays = [f"text {lm.delays[0]}"]
    delays += [f"spoken {_row(lm.delays[1 : 1 + lm.dep_q])}"] if lm.dep_q else []
    delays += [f"heard {_row(user)}"] if user else []
    lines.append(f"  delays, frames: {'; '.join(delays)}")
    if t.context is not None:
        cache = 2 * t.num_layers * t.context * t.dim // t.kv_repeat
        lines.append(f"  cache of a conversation: float32 {human(4 * cache)}, bfloat16 {human(2 * cache)}")
    if lm.lora_rank:
        lines.append(f"  low-rank adapters (LoRA): rank {lm.lora_rank}")
    if lm.conditioners:
        lines.append(f"  conditions: {', '.join(c.name for c in lm.conditioners)}")
    return lines


def _omni_lines(c: MiniOmniConfig, opened: Opened) -> list[str]:
    v = c.vocabulary
    kind = "linear" if c.adapter == "mlp" else "gated"
    lines = [
        *_decoder_lines(c.decoder, opened),
        f"  streams: text of {v.padded_text_size} tokens, {v.streams} of audio with {v.padded_audio_size} each; "
        f"embeddings merged by their {c.merge}",
        f"  hears {c.feature_dim} features through a {kind} adapter",
    ]
    layers = c.post_adapter_layers
    return [*lines, f"  speaks through a post-adapter of {layers} layers and a head of its own"] if layers else lines


def _tokenizer(opened: Opened) -> bytes | None:
    return opened.files.get("tokenizer.json")


def _decoder_lines(c: DecoderConfig, _: Opened) -> list[str]:
    from jomni.models.decoder.config import SLIDING

    sliding = c.kinds.count(SLIDING)
    windows = f", {sliding} of them see the last {c.window}" if sliding else ""
    step = 2 * c.num_kv_heads * c.head_dim * c.num_layers
    lines = [
        f"  {c.num_layers} layers{windows}, {c.dim} wide, {c.num_heads} heads of {c.head_dim} on {c.num_kv_heads} "
        "key/value heads",
        f"  {c.vocab_size} tokens, head {'tied to the embedding' if c.tied else 'of its own'}",
        f"  context {c.max_positions} tokens, rotary positions of kind {c.rope.kind!r}",
        f"  cache of 1000 tokens: float32 {human(4000 * step)}, bfloat16 {human(2000 * step)}",
    ]
    return lines


def _codec_lines(codec: MimiConfig, opened: Opened) -> list[str]:
    steps, rate = codec.transformer.context, codec.frame_rate * codec.resample_stride
    return [
        f"  {codec.sample_rate} Hz, {codec.frame_rate:g} frames a second, {codec.frame_size} samples each",
        f"  {codec.num_codebooks} codebooks of {codec.quantizer.bins} entries, {used_codebooks(opened)} in use",
        f"  context {'all frames' if steps is None else f'{steps} steps of its transformer ({steps / rate:g} s)'}",
    ]


def _encoder_lines(whisper: WhisperConfig, _: Opened) -> list[str]:
    return [
        f"  {whisper.n_audio_layer} layers, {whisper.n_audio_state} wide, {whisper.n_audio_head} heads",
        f"  {whisper.n_mels} mel channels of 16 kHz audio in, {whisper.n_audio_ctx} frames of 20 ms out "
        f"({whisper.n_audio_ctx / 50:g} s)",
        "  its text decoder, where the file has one, is left out",
    ]


def _snac_lines(codec: SnacConfig, _: Opened) -> list[str]:
    rates = ", ".join(f"{codec.frame_rate * n:.4g}" for n in codec.tokens_per_frame)
    window, late = codec.attn_window_size, codec.look_ahead
    return [
        f"  {codec.sampling_rate} Hz, {codec.frame_rate:.4g} frames a second, {codec.frame_size} samples each",
        f"  {codec.num_codebooks} codebooks of {codec.codebook_size} entries, at {rates} Hz",
        f"  attention {'none' if window is None else f'in windows of {window / codec.vq_strides[0]:g} frames'}",
        f"  decodes a stream {late} samples late ({1000 * late / codec.sampling_rate:.0f} ms), "
        f"in steps of {codec.frame_multiple} frame{'s' if codec.frame_multiple > 1 else ''} or a multiple",
    ]


_SECTIONS: dict[str, tuple[str, Mapping[str, tuple[str, ...]], Callable[[Any, Opened], list[str]]]] = {
    "lm": ("language model", LM_PARTS, _lm_lines),
    "omni": ("language model", OMNI_PARTS, _omni_lines),
    "decoder": ("text decoder", DECODER_PARTS, _decoder_lines),
    "mimi": ("codec Mimi", CODEC_PARTS, _codec_lines),
    "snac": ("codec SNAC", CODEC_PARTS, _snac_lines),
    "whisper": ("encoder", ENCODER_PARTS, _encoder_lines),
}
"""Part of a checkpoint -> its title, its parts, and what else there is to say of it."""


def _sizes(tree: Mapping[str, Any]) -> dict[str, int]:
    from jomni.tensors.weight_map import flatten

    return {path: math.prod(leaf.shape) for path, leaf in flatten(tree)}


def _parts(sizes: Mapping[str, int], parts: Mapping[str, tuple[str, ...]]) -> list[str]:
    counts = dict.fromkeys(parts, 0)
    for path, size in sizes.items():
        counts[next(name for name, starts in parts.items() if path.startswith(starts))] += size
    return [f"  {name}: {count:,}" for name, count in counts.items() if count]


def _stored(source: TensorSource | None) -> str:
    """The dtype that most numbers of a weight file have."""
    if source is None:
        return ""
    counts: Counter[str] = Counter()
    for spec in source.specs.values():
        counts[spec.dtype.name] += math.prod(spec.shape)
    return f", stored as {counts.most_common(1)[0][0]}" if counts else ""


def _row(values: Sequence[int]) -> str:
    return " ".join(map(str, values))
