"""The tensor maps between Kyutai's layout and Hugging Face's: complete, invertible, readable in parts."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from jomni.checkpoints.detect import detect
from jomni.checkpoints.hf import _AUDIO_PREFIX as AUDIO_PREFIX
from jomni.errors import WeightsError
from jomni.models.mimi import weights as mimi_weights
from jomni.models.mimi.config import MIMI
from jomni.models.mimi.weights_hf import mimi_layout
from jomni.models.moshi import weights as moshi_weights
from jomni.models.moshi.config import MOSHI_7B
from jomni.models.moshi.weights_hf import moshi_layout
from jomni.tensors.files import open_source
from jomni.tensors.layout import Layout, MappedSource, check_tensors, swap_rope_order
from jomni.tensors.source import MemorySource, TensorSpec
from tests.paths import PARITY_DATA

DATA = PARITY_DATA

TINY_MIMI = dataclasses.replace(
    MIMI,
    seanet=dataclasses.replace(MIMI.seanet, dimension=8, n_filters=2, n_residual_layers=2, true_skip=False),
    transformer=dataclasses.replace(
        MIMI.transformer, dim=8, num_heads=4, num_layers=1, kv_repeat=2, dim_feedforward=6, context=5
    ),
    quantizer=dataclasses.replace(MIMI.quantizer, dimension=4, n_q=5, n_q_semantic=2, bins=8),
)
TINY_MOSHI = dataclasses.replace(
    MOSHI_7B, dim=8, num_heads=4, num_layers=2, kv_repeat=2, card=8, text_card=10, text_card_out=10,
    delays=(0, 0, 1, 1, 0, 1, 1), n_q=6, dep_q=3, depformer_dim=12, depformer_num_heads=2, depformer_num_layers=2,
    depformer_dim_feedforward=9, context=7,
)  # fmt: skip
LAYOUTS = [mimi_layout(TINY_MIMI, "audio_encoder."), moshi_layout(TINY_MOSHI)]


def random_source(layout: Layout, side: str) -> MemorySource:
    draw = np.random.default_rng(0)
    return MemorySource(
        {name: draw.standard_normal(shape).astype(ml_dtypes.bfloat16) for name, shape in layout.shapes[side].items()}
    )


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS, ids=["mimi", "moshi"])
@pytest.mark.parametrize(("side", "other"), [("kyutai", "hf"), ("hf", "kyutai")])
def test_there_and_back_gives_every_byte_again(layout, side, other):
    source = random_source(layout, side)
    there = MappedSource(source, layout, other)
    assert {name: spec.shape for name, spec in there.specs.items()} == layout.shapes[other]
    back = MappedSource(there, layout, side)
    assert back.specs == source.specs
    for name in source.specs:
        assert same(back.read(name), source.read(name)), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=["mimi", "moshi"])
@pytest.mark.parametrize(("side", "other"), [("kyutai", "hf"), ("hf", "kyutai")])
def test_reading_some_rows_is_reading_all_and_cutting(layout, side, other):
    there = MappedSource(random_source(layout, side), layout, other)
    for name, spec in there.specs.items():
        whole = there.read(name)
        for start in {0, 1, spec.shape[0] // 3, spec.shape[0] // 2, spec.shape[0] - 1}:
            for stop in {start, start + 1, spec.shape[0] // 2, spec.shape[0] - 1, spec.shape[0], spec.shape[0] + 5}:
                rows = slice(start, stop)
                assert same(there.read(name, rows), whole[rows]), (name, rows)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["mimi", "moshi"])
def test_blocks_cover_every_tensor_once(layout):
    for side in ("kyutai", "hf"):
        covered: dict[str, list[int]] = {}
        for block in layout.blocks:
            first = block.row(side)
            covered.setdefault(block.name(side), []).extend(range(first, first + block.rows))
        assert set(covered) == set(layout.shapes[side])
        for name, rows in covered.items():
            assert sorted(rows) == list(range(layout.heights(side)[name])), name


@pytest.mark.parametrize(("name", "prefix"), [("mimi", ""), ("moshi", AUDIO_PREFIX)])
def test_a_folder_written_by_transformers_goes_through_kyutai_names_and_back(name, prefix):
    folder, base = detect(DATA / f"hf_{name}"), open_source(DATA / f"hf_{name}" / "model.safetensors")
    assert "mimi" in folder.configs
    layouts = [(folder.sources["mimi"], mimi_layout(folder.configs["mimi"], prefix))]
    if "lm" in folder.configs:
        layouts.append((folder.sources["lm"], moshi_layout(folder.configs["lm"])))
    seen = set()
    for source, layout in layouts:
        back = MappedSource(source, layout, "hf")
        seen |= set(back.specs)
        for tensor in back.specs:
            assert same(back.read(tensor), base.read(tensor)), tensor
    assert seen == set(base.specs)


def test_rotary_rows_move_between_pairs_and_halves():
    kyutai = np.asarray([["a0"], ["a1"], ["b0"], ["b1"], ["c0"], ["c1"], ["d0"], ["d1"]])  # heads ab and cd
    hf = swap_rope_order(kyutai, 2, to="hf")
    assert hf[:, 0].tolist() == ["a0", "b0", "a1", "b1", "c0", "d0", "c1", "d1"]
    assert (swap_rope_order(hf, 2, to="kyutai") == kyutai).all()


def test_missing_unknown_and_misshapen_tensors_are_told_at_once():
    layout = moshi_layout(TINY_MOSHI)
    specs = {name: TensorSpec(shape, np.dtype(np.float32)) for name, shape in layout.shapes["hf"].items()}
    del specs["embed_tokens.1.weight"], specs["decoder.lm_head.weight"]
    specs["decoder.model.norm.weight"] = TensorSpec((9,), np.dtype(np.float32))
    specs["decoder.model.norm.bias"] = TensorSpec((8,), np.dtype(np.float32))
    with pytest.raises(WeightsError) as caught:
        check_tensors(specs, [layout], "here")
    for told in (
        "here", "'embed_tokens.1.weight'", "'decoder.lm_head.weight'", "'decoder.model.norm.weight'", "[9]", "[8]",
        "'decoder.model.norm.bias'",
    ):  # fmt: skip
        assert told in str(caught.value)


def test_parts_of_different_types_are_refused_by_name():
    layout = moshi_layout(TINY_MOSHI)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in layout.shapes["hf"].items()}
    name = "decoder.model.layers.1.self_attn.k_proj.linear.weight"
    tensors[name] = tensors[name].astype(np.float16)
    with pytest.raises(WeightsError, match=r"layers\.1\.self_attn\.k_proj\.linear\.weight' [^,]*float16"):
        MappedSource(MemorySource(tensors), layout, "kyutai")


@pytest.mark.parametrize("part", ["mimi", "moshi"])
def test_full_size_presets_have_the_names_and_shapes_of_kyutai(part):
    if part == "mimi":
        layout, tensors = mimi_layout(MIMI), mimi_weights.weight_map(MIMI).expect(mimi_weights.abstract_params(MIMI))
    else:
        layout, tensors = (
            moshi_layout(MOSHI_7B),
            moshi_weights.weight_map(MOSHI_7B).expect(moshi_weights.abstract_params(MOSHI_7B)),
        )
    assert layout.shapes["kyutai"] == {tensor.name: tensor.shape for tensor in tensors}


@pytest.mark.peers
@pytest.mark.parametrize("part", ["mimi", "moshi"])
def test_full_size_presets_have_the_names_and_shapes_of_transformers(part):
    import torch
    from transformers import MimiConfig as HfMimi
    from transformers import MimiModel, MoshiForConditionalGeneration
    from transformers import MoshiConfig as HfMoshi

    with torch.device("meta"):
        model = (
            MimiModel(HfMimi())
            if part == "mimi"
            else MoshiForConditionalGeneration(HfMoshi(audio_encoder_config=HfMimi().to_dict()))
        )
    expected = {_saved_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    ours = mimi_layout(MIMI, AUDIO_PREFIX if part == "moshi" else "").shapes["hf"]
    if part == "moshi":
        ours = ours | moshi_layout(MOSHI_7B).shapes["hf"]
    assert ours == expected


def _saved_name(name: str) -> str:
    """`save_pretrained` brings the names of transformers 5.2x's encoder and decoder halves back to the flat ones."""
    for half in ("encoder", "decoder"):
        name = name.replace(f"{half}.{half}_seanet.", f"{half}.")
        name = name.replace(f"{half}.{half}_transformer.", f"{half}_transformer.")
    return name.replace("encoder.downsample", "downsample").replace("decoder.upsample", "upsample")
