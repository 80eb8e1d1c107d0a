"""A Moshi tokenizer.json read back into sentencepiece."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from jomni.checkpoints.tokenizers import read_tokenizer_json
from jomni.errors import WeightsError
from jomni.models.mimi import weights_hf as hf_mimi

WORDS = [("\u2581he", -2.0), ("llo", -2.5), ("\u2581", -3.0), ("l", -5.0), ("\u2581well", -4.0), ("o", -6.0)]


def tokenizer_json() -> dict:
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    vocab = [[piece, 0.0] for piece in (*special, *(f"<0x{i:02X}>" for i in range(256)))]
    return {
        "added_tokens": [{"id": i, "content": piece, "special": True} for i, piece in enumerate(special)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}],
        },
        "pre_tokenizer": {
            "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False,
        },
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": vocab + [list(w) for w in WORDS]},
    }  # fmt: skip


def read(raw: dict, folder: Path) -> sentencepiece.SentencePieceProcessor:
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    return sentencepiece.SentencePieceProcessor(model_proto=read_tokenizer_json(folder / "tokenizer.json"))


def test_pieces_bytes_and_special_tokens_keep_their_ids(tmp_path):
    text = read(tokenizer_json(), tmp_path)
    assert (text.unk_id(), text.bos_id(), text.eos_id(), text.pad_id()) == (0, 1, 2, 3)
    assert text.get_piece_size() == 266
    assert [text.id_to_piece(260 + i) for i in range(len(WORDS))] == [piece for piece, _ in WORDS]
    assert text.encode("hello") == [260, 261]
    assert text.encode("\u00e9") == [262, 4 + 0xC3, 4 + 0xA9]
    assert text.decode([260, 261, 264, 4 + 0xC3, 4 + 0xA9]) == "hello well\u00e9"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"type": "BPE"}}, "'BPE'"),
        ({"added_tokens": [{"id": 999, "content": "<extra>", "special": True}]}, "<extra>"),
        ({"normalizer": {"type": "NFKC"}}, "NFKC"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "ByteLevel"),
        ({"normalizer": None}, "NoneType"),
    ],
)
def test_other_tokenizers_are_refused(change, named, tmp_path):
    with pytest.raises(WeightsError) as caught:
        read(tokenizer_json() | change, tmp_path)
    assert named in str(caught.value) and "tokenizer.json" in str(caught.value)


@pytest.mark.peers
def test_what_transformers_converts_is_converted_back(tmp_path):
    """Every piece, type and score, encoding and decoding, of a model trained here with Moshi's settings."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import MoshiConverter

    text = Path(hf_mimi.__file__).read_text(encoding="utf-8") + "\u00e9\u4f60 \ufb01ne  two spaces 1234\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "original"), vocab_size=460,
        model_type="unigram", byte_fallback=True, split_digits=True, unk_id=0, bos_id=1, eos_id=2, pad_id=3,
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    converted = MoshiConverter(str(tmp_path / "original.model")).converted()
    PreTrainedTokenizerFast(tokenizer_object=converted, unk_token="<unk>").save_pretrained(tmp_path)
    proto = read_tokenizer_json(tmp_path / "tokenizer.json")
    ours = sentencepiece.SentencePieceProcessor(model_proto=proto)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "original.model"))
    assert ours.get_piece_size() == theirs.get_piece_size() == 460
    for i in range(460):
        for method in ("id_to_piece", "get_score", "is_control", "is_unknown", "is_byte", "is_unused"):
            assert getattr(ours, method)(i) == getattr(theirs, method)(i), (i, method)
    for line in text.splitlines():
        assert ours.encode(line) == theirs.encode(line), line
    draw = np.random.default_rng(0)
    for _ in range(50):
        ids = draw.integers(0, 460, 12).tolist()
        assert ours.decode(ids) == theirs.decode(ids)
