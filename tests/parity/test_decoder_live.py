"""jomni beside transformers' text decoders themselves, in both directions."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import jomni
from jomni.checkpoints.load import load
from jomni.checkpoints.save import save
from jomni.generation.tokenizer import TextTokenizer
from tests.decoder_cases import checkpoint, files
from tests.parity.compare import largest_difference
from tests.parity.test_decoder_golden import DATA, LAYOUTS, greedy, logits_of

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tools.goldens import decoder as peer  # noqa: E402
from tools.goldens.chats import CASES as CHATS  # noqa: E402
from tools.goldens.chats import render_with_peer  # noqa: E402
from tools.goldens.make_decoder import layouts  # noqa: E402

SEED = 77


@pytest.mark.parametrize("case", peer.CASES)
def test_there_and_back(case, tmp_path, one_thread_and_float32):
    """transformers -> jomni -> transformers, in shards: the same answers at each station."""
    model = peer.make_model(case, SEED)
    answers = peer.run(model, SEED)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    ours = load(tmp_path / "theirs")
    difference = largest_difference(logits_of(ours, answers["tokens"]), answers["logits"])
    assert difference < 1e-3 and 2 * difference < answers["margin"]  # rounding changes no greedy token
    count = answers["answer"].shape[1]
    np.testing.assert_array_equal(greedy(ours, answers["tokens"], count), answers["answer"])
    save(ours, tmp_path / "ours", "hf")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert type(again) is type(model)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(peer.run(again, SEED)["logits"], answers["logits"])


def test_half_precision_is_close_to_the_same_model_in_half_precision(tmp_path, one_thread_and_float32, say):
    model = peer.make_model("gemma2", SEED)
    wanted = peer.run(model, SEED)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    half = load(tmp_path)
    assert half.params["decoder"]["norm"]["alpha"].dtype == ml_dtypes.bfloat16
    tokens = torch.from_numpy(wanted["tokens"]).long()
    with torch.no_grad():
        theirs = model(input_ids=tokens).logits.float().numpy() - wanted["logits"]
    ours = logits_of(half, wanted["tokens"]) - wanted["logits"]
    error, theirs_error = (float(np.sqrt(np.mean(x**2))) for x in (ours, theirs))
    say(f"bfloat16 beside float32, RMS of logits: {error:.3f}, transformers {theirs_error:.3f}")
    assert error < 1.2 * theirs_error


def test_the_goldens_are_what_transformers_gives_today():
    assert layouts() == LAYOUTS
    chats = json.loads((DATA / "chats.json").read_text())
    assert {name: render_with_peer(chat) for name, chat in CHATS.items()} == chats


def test_a_folder_chats_as_in_transformers(tmp_path, one_thread_and_float32):
    """The same tokens of the same conversation, and greedily the same answer in text."""
    mine = checkpoint()
    save(mine, tmp_path / "folder", "hf")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "folder")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder", attn_implementation="eager").eval()
    messages = [{"role": "user", "content": "Wie groß? 😀"}]
    tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert TextTokenizer(files(), "here").encode_chat(messages) == tokens
    chat = jomni.Chat(load(tmp_path / "folder"), context=300)
    said = "".join(step[0] for step in chat.reply(["Wie groß? 😀"], max_tokens=100, temperature=0))
    out = model.generate(
        torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens), dtype=torch.long), max_new_tokens=100,
        do_sample=False, repetition_penalty=1.0, eos_token_id=257, pad_token_id=0,
    )  # fmt: skip
    assert said == tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True)
