"""Time one step of the language model in jomni and moshi PyTorch, alternating, in float32.

The model is a smaller Moshi (dim 1024, 12 layers, depth 512 x 4, context 3000: 392 M parameters) with random weights.
Prints the median and the 99th percentile of the milliseconds per step.

    NO_TORCH_COMPILE=1 python -m tools.bench.lm_step --batch 1 8      # needs the `peers` extra
    python -m tools.bench.lm_step --alone --dtype bfloat16             # jomni alone, for a GPU or TPU
    python -m tools.bench.lm_step --alone --size 7b --dtype bfloat16   # Moshi's own size
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jomni.models.moshi import MOSHI_7B, MoshiConfig, MoshiLM
from jomni.models.moshi.generate import Generator

TURN = 6  # steps per turn, the first is a warm-up
PAUSE = 0.3  # seconds before a turn, until the other implementation's threads are idle

LAPTOP = dataclasses.replace(
    MOSHI_7B, dim=1024, num_heads=16, num_layers=12, depformer_dim=512, depformer_dim_feedforward=2112,
    depformer_num_heads=8, depformer_num_layers=4,
)  # fmt: skip


def jomni_step(config: MoshiConfig, batch: int, dtype: str) -> Callable[[], None]:
    """Return a function that runs one step of jomni."""
    lm = MoshiLM(config)
    tree = jax.eval_shape(lm.init, jax.random.key(0), jnp.zeros((1, config.n_q + 1, 2), jnp.int32))["params"]
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    draw = jax.jit(lambda key, shape: (0.02 * jax.random.normal(key, shape)).astype(dtype), static_argnums=1)
    params = jax.tree.unflatten(structure, [draw(k, s.shape) for k, s in zip(keys, leaves, strict=True)])
    generator = Generator(lm, dtype)
    held = [generator.init_state(batch)]
    controls, user = generator.controls(batch), jnp.zeros((batch, config.user_q), jnp.int32)

    def step() -> None:
        held[0], out = generator.step(params, held[0], user, controls)
        jax.block_until_ready(out.codes)

    return step


def torch_step(config: MoshiConfig, batch: int) -> Callable[[], None]:
    """Return a function that runs one step of moshi PyTorch."""
    import torch
    from moshi.models import LMGen, loaders

    torch.set_grad_enabled(False)
    model = loaders.get_moshi_lm(None, config.to_kyutai(), dtype=torch.float32)
    generator = LMGen(model.eval())
    generator.streaming_forever(batch)
    user = torch.zeros((batch, config.user_q, 1), dtype=torch.long)
    return lambda: generator.step(user)


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="conversations in one step")
    parser.add_argument("--steps", type=int, default=30, help="steps to measure")
    parser.add_argument("--alone", action="store_true", help="without moshi PyTorch")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", choices=("laptop", "7b"), default="laptop")
    args = parser.parse_args()
    config = LAPTOP if args.size == "laptop" else MOSHI_7B
    for batch in args.batch:
        steps = {f"jomni {args.dtype}": jomni_step(config, batch, args.dtype)}
        if not args.alone:
            steps["moshi PyTorch float32"] = torch_step(config, batch)
        times: dict[str, list[float]] = {name: [] for name in steps}
        while len(times[next(iter(steps))]) < args.steps:
            for name, step in steps.items():
                time.sleep(PAUSE)
                for i in range(TURN):
                    start = time.perf_counter()
                    step()
                    if i:
                        times[name].append(1e3 * (time.perf_counter() - start))
        for name, found in times.items():
            print(f"batch {batch}: {name:24} median {np.median(found):7.1f} ms, p99 {np.percentile(found, 99):7.1f} ms")
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}; {platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
