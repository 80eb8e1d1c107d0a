"""Time Mini-Omni's answers in jomni and the original code, alternating, with the same sizes, in float32.

Prints for each mode: seconds to read the question, milliseconds per step, text tokens (steps) per second, and, for
spoken answers, steps and milliseconds from the question's features to the first sound. The question is 3 s of speech
(151 frames of features; tools.bench.whisper measures the speech encoder) or 20 tokens of text. Each implementation has
random weights of its own. Special audio tokens are mapped to ordinary ones, so that all frames are decoded.

The original streams audio in its batch-parallel mode only: chunks of 4 frames, the first after 11 steps. Its other
spoken modes return audio when the answer is complete; they are measured as if they streamed in the same way. jomni
streams in all modes, frame by frame, each sample as soon as it does not depend on later codes.

    python -m tools.bench.omni CHECKOUT               # of github.com/gpt-omni/mini-omni; needs the `peers` extra
    python -m tools.bench.omni CHECKOUT --size small  # a few seconds
    python -m tools.bench.omni --alone --dtype bfloat16
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jomni.models.mini_omni import MiniOmni, MiniOmniConfig
from jomni.models.mini_omni.generate import OmniGenerator
from jomni.models.mini_omni.session import OmniSession
from jomni.models.mini_omni.streams import Task
from jomni.models.mini_omni.voice import OmniVoice
from jomni.models.snac.config import SNAC_24KHZ
from jomni.models.snac.model import Snac
from tools.bench.mimi_stream import processor

PAUSE = 0.3  # seconds before a turn, until the other implementation's threads are idle
FULL: dict[str, Any] = dict(
    name="qwen2-0.5b", block_size=2048, n_layer=24, n_head=14, n_embd=896, n_query_groups=2, padded_vocab_size=181_120,
    intermediate_size=4864, parallel_residual=False, bias=False, add_qkv_bias=True, norm_class_name="RMSNorm",
    norm_eps=1e-6, mlp_class_name="LLaMAMLP", rotary_percentage=1.0, rope_base=1_000_000, tie_word_embeddings=True,
    whisper_adapter_dim=768, post_adapter=False, asr_adapter="llamamlp",
)  # fmt: skip
SIZES = {"full": FULL, "small": FULL | dict(n_layer=4, n_head=4, n_embd=64, intermediate_size=256)}
MODES = {
    "A1-A2": (Task.A1_A2, "single"), "A1-A2 parallel": (Task.A1_A2, "batch_parallel"), "T1-A2": (Task.T1_A2, "single"),
    "A1-T2": (Task.A1_T2, "text_only"), "A1-T1": (Task.A1_T1, "text_only"), "T1-T2": (Task.T1_T2, "text_only"),
}  # fmt: skip
FIRST_STEPS, CHUNK = 11, 4  # the original: steps before its first audio, frames of a chunk
TEXT = list(range(100, 120))
FEATURES = np.random.default_rng(0).standard_normal((151, 768)).astype(np.float32)


class Found(NamedTuple):
    """Times of one answer."""

    read: float  # seconds until the question is read
    steps: list[float]  # seconds of each step
    first_steps: int  # steps until the first sound; 0: no sound
    first: float  # seconds until the first sound


def random_params(module: Any, x: Any, dtype: str) -> Any:
    """Return small random parameters of a module whose input is x."""
    random, shapes = np.random.default_rng(0), jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    return jax.tree.map(lambda s: jnp.asarray(0.02 * random.standard_normal(s.shape, np.float32), dtype), shapes)


def ours(fields: dict[str, Any], dtype: str, count: int) -> dict[str, Callable[[], Found]]:
    """Return mode -> function that generates one answer with jomni."""
    config = MiniOmniConfig.from_published(fields)
    params = random_params(MiniOmni(config, apart=True), jnp.zeros((1, 8, 1), jnp.int32), dtype)
    codec = random_params(Snac(SNAC_24KHZ), jnp.zeros((1, 1, 2048)), "float32")

    def side(task: Task, voice: str) -> Callable[[], Found]:
        session = OmniSession(OmniGenerator(config, fields["block_size"], voice, dtype=dtype), params)
        sound = OmniVoice(SNAC_24KHZ, codec, config.vocabulary)

        def answer() -> Found:
            session.forget(0)
            sound.begin(0)
            begin = time.perf_counter()
            session.ask([[FEATURES if task.listens else TEXT]], task)
            column = session.step()[0]
            read, steps, first_steps, first = time.perf_counter() - begin, [], 0, 0.0
            for step in range(1, count + 1):
                if task.speaks and not first:
                    assert column is not None
                    _, pcm = sound.push([np.append(column[:-1] % config.vocabulary.audio_size, column[-1])])
                    if pcm[0].size:
                        first_steps, first = step, time.perf_counter() - begin
                session.slots[0].active = True  # a random model may end at any time
                start = time.perf_counter()
                column = session.step()[0]
                steps.append(time.perf_counter() - start)
            return Found(read, steps, first_steps, first)

        return answer

    return {mode: side(*how) for mode, how in MODES.items()}


def theirs(fields: dict[str, Any], count: int) -> dict[str, Callable[[], Found]]:
    """Return mode -> function that generates one answer with the original's model, prompts, sampling and codec."""
    import torch
    from snac import SNAC

    from tools.goldens import make_omni

    torch.set_grad_enabled(False)
    model = make_omni.build(fields)
    model.device = torch.device("cpu")
    codec = SNAC(sampling_rate=24_000, encoder_dim=48, encoder_rates=[2, 4, 8, 8], decoder_dim=1024,
                 decoder_rates=[8, 8, 4, 2], attn_window_size=None, vq_strides=[4, 2, 1]).eval()  # fmt: skip
    base, inference = make_omni.original()
    from utils.snac_utils import generate_audio_data, get_snac

    def side(mode: str, task: Task, voice: str) -> Callable[[], Found]:
        rows = 2 if voice == "batch_parallel" else 1

        def feed(tokens: list[Any], text: Any) -> list[Any]:
            """Return the next step's input, as in the original's loops."""
            rest = [torch.tensor([inference.layershift(4097, i)]) for i in range(7)]
            shifted = [inference.layershift(x, i) for i, x in enumerate(tokens)] or rest
            if rows == 1:
                return [x.view(1, -1).to(torch.int32) for x in [*shifted, text]]
            pairs = [*zip(shifted, rest, strict=True), (text, text)]
            return [torch.stack([a.view(-1), b.view(-1)]).to(torch.int32) for a, b in pairs]

        def forward(features: Any, ids: list[Any], at: Any) -> tuple[list[Any], Any]:
            length = ids[0].shape[1] - 3
            given = None if features is None else [length] * rows, None if features is None else ["A1T2"] * rows
            settings = dict(input_pos=at, temperature=0.9, top_k=1)
            if rows == 2:
                return base.next_token_batch(model, features, ids, *given, **settings)
            if task.speaks:
                return base.next_token_A1T2(model, features, ids, *given, **settings)
            return [], base.next_token_A1T1(model, features, ids, *given, **settings)

        def answer() -> Found:
            model.set_kv_cache(batch_size=rows)
            features, ids = make_omni.prompt(task.value, voice, np.array(TEXT), FEATURES)
            length = ids[0].shape[1]
            begin = time.perf_counter()
            audio, text = forward(features, ids, torch.arange(length))
            read, steps, first, outputs = time.perf_counter() - begin, [], 0.0, [[] for _ in range(7)]
            for step in range(1, count + 1):
                for held, x in zip(outputs, audio, strict=False):
                    held.append(int(x) % 4096)
                if task.speaks and step == FIRST_STEPS:
                    generate_audio_data(get_snac(outputs, step - 1, CHUNK), codec, "cpu")
                    first = time.perf_counter() - begin
                start = time.perf_counter()
                audio, text = forward(None, feed(audio, text), torch.tensor([length + step - 1]))
                steps.append(time.perf_counter() - start)
            return Found(read, steps, FIRST_STEPS if task.speaks else 0, first)

        return answer

    return {mode: side(mode, *how) for mode, how in MODES.items()}


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", help="a checkout of the original's repository")
    parser.add_argument("--alone", action="store_true", help="without the original")
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--dtype", default="float32", help="dtype of jomni's weights and cache")
    parser.add_argument("--turns", type=int, default=3, help="timed answers of each implementation")
    parser.add_argument("--steps", type=int, default=16, help="steps of each answer, at least 12")
    parser.add_argument("--threads", type=int, default=2, help="cores used by each implementation")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    args = parser.parse_args()
    if args.checkout is None and not args.alone:
        parser.error("give a checkout of the original's repository, or --alone")
    if hasattr(os, "sched_setaffinity"):  # before jax counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    sides = {"jomni": ours(SIZES[args.size], args.dtype, args.steps)}
    if not args.alone:
        sys.path.insert(0, str(args.checkout))
        import torch

        torch.set_num_threads(args.threads)
        sides["mini-omni"] = theirs(SIZES[args.size], args.steps)
    for mode in args.modes:
        times: dict[str, list[Found]] = {name: [] for name in sides}
        for turn in range(args.turns + 1):  # the first turn warms up
            for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
                time.sleep(PAUSE)
                found = side[mode]()
                if turn:
                    times[name].append(found)
        for name, all_found in times.items():
            step = float(np.median([x for found in all_found for x in found.steps]))
            line = f"{mode:15}{name:10} question {np.median([x.read for x in all_found]):7.3f} s, "
            line += f"step {1e3 * step:7.1f} ms, {1 / step:6.1f} tokens/s"
            if all_found[0].first_steps:
                first = np.median([x.first for x in all_found])
                line += f", first sound {all_found[0].first_steps} steps, {1e3 * first:7.0f} ms"
            print(line, flush=True)
    print(f"Mini-Omni {args.size}, {args.turns} answers of {args.steps} steps each, {args.dtype}")
    releases = {name: version(name) for name in ("jax", "jomni", *([] if args.alone else ["torch", "snac"]))}
    print(", ".join(f"{k} {v}" for k, v in releases.items()) + f", python {platform.python_version()}")
    print(f"{processor()}, {args.threads} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
