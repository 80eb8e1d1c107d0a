"""Tokenizers and chat templates."""

import json

import pytest
import tokenizers

from jomni.errors import PromptError, WeightsError
from jomni.generation.template import render
from jomni.generation.tokenizer import TextStream, TextTokenizer
from tests.decoder_cases import files
from tools.goldens.chats import TEMPLATES

TEXT = "Größe 😀👩‍🚀 日本語 — naïve\n\tend  "


def of_bytes():
    return TextTokenizer(files(), "here")


def with_fallback():
    """Return a tokenizer with words in sentencepiece's form and bytes such as <0xE2> for all else."""
    vocabulary = {"<unk>": 0} | {f"<0x{b:02X}>": b + 1 for b in range(256)} | {"▁": 257, "a": 258, "e": 259, "n": 260}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = tokenizers.normalizers.Sequence([
        tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁"),
    ])  # fmt: skip
    d = tokenizers.decoders
    tokenizer.decoder = d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    return TextTokenizer({"tokenizer.json": tokenizer.to_str().encode()}, "here")


@pytest.mark.parametrize("make", [of_bytes, with_fallback])
def test_streamed_text_is_the_whole_text_and_never_cuts_a_character(make):
    tokenizer = make()
    tokens = tokenizer.encode(TEXT, special=False)
    assert tokenizer.decode(tokens) == TEXT and len(tokens) > len(TEXT)
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokens]
    assert "".join(pieces) == TEXT and stream.end() == ""
    assert "\ufffd" not in "".join(pieces) and "" in pieces and "😀" in pieces


def test_an_incomplete_character_is_returned_at_the_end():
    tokenizer = of_bytes()
    tokens = tokenizer.encode("a😀", special=False)[:-1]
    stream = TextStream(tokenizer)
    assert [stream.push(token) for token in tokens] == ["a", "", "", ""]
    assert stream.end() == "\ufffd" == tokenizer.decode(tokens)[1:]


def test_special_tokens_have_no_text_and_are_known_to_templates():
    tokenizer = of_bytes()
    assert tokenizer.decode([tokenizer.token("<|im_end|>")]) == ""
    assert tokenizer.special == {"eos_token": "<|im_end|>"}
    messages = [{"role": "user", "content": "Hi"}]
    tokens = tokenizer.encode_chat(messages)
    assert tokens.count(tokenizer.token("<|im_start|>")) == 3  # system, user, what begins the answer


def test_templates_come_from_either_file():
    held = files()
    template = held.pop("chat_template.jinja").decode()
    for value in (template, [{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}]):
        held["tokenizer_config.json"] = json.dumps({"chat_template": value}).encode()
        assert TextTokenizer(held, "here").template == template


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"tokenizer.json": None}, "^here: .*tokenizer.json"),
        ({"tokenizer.json": b"{}"}, "^here: .*tokenizer.json .*line 1"),
        ({"tokenizer_config.json": b"{"}, "^here: .*tokenizer_config.json .*line 1"),
        ({"tokenizer_config.json": b"[]"}, "^here: .*tokenizer_config.json .*object"),
    ],
)
def test_damaged_files_are_named(change, word):
    held = {name: content for name, content in (files() | change).items() if content is not None}
    with pytest.raises(WeightsError, match=word):
        TextTokenizer(held, "here")


def test_a_model_without_a_template_refuses_conversations():
    held = files()
    del held["chat_template.jinja"]
    with pytest.raises(WeightsError, match=r"^here: .*chat template"):
        TextTokenizer(held, "here").render([{"role": "user", "content": "Hi"}])


def test_a_refusal_of_a_template_has_its_reason():
    with pytest.raises(PromptError, match="System role not supported"):
        render(TEMPLATES["turns"], [{"role": "system", "content": "x"}], {})
    with pytest.raises(WeightsError, match=r"template .*end of statement block"):
        render("{% if %}", [], {})


@pytest.mark.parametrize(
    ("template", "attribute"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "'__class__' of 'str'"),
        ("{{ messages.append(1) }}", "'append' of 'list'"),
        ("{{ raise_exception.__globals__.keys() }}", "'__globals__' of 'function'"),
        ("{{ messages[0].update({'content': 'y'}) }}", "'update' of 'dict'"),
    ],
)
def test_templates_cannot_reach_out_or_change_anything(template, attribute):
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(PromptError, match=attribute):
        print(render(template, messages, {}))
    assert messages == [{"role": "user", "content": "x"}]
