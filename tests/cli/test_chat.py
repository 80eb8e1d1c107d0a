"""`jomni chat`, and what the other commands make of a text decoder."""

import dataclasses
import io
import sys

import pytest

import jomni
from tests.decoder_cases import checkpoint


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model that answers in random bytes."""
    path = tmp_path_factory.mktemp("decoder") / "decoder"
    jomni.save(checkpoint(), path, "hf")
    return path


def test_a_prompt_gets_one_answer_the_same_for_the_same_seed(run, folder):
    line = ("chat", "Why is the sky blue?", "--model", folder, "--max-tokens", "12", "--system", "Be brief.")
    (code, out, err), again, other = run(*line), run(*line), run(*line, "--seed", "5")
    assert code == 0 and out.endswith("\n") and len(out) > 5
    assert "repetition_penalty=1.1, not applied" in err
    assert again[1] == out != other[1]
    assert run(*line, "--temperature", "0")[1] == run(*line, "--temperature", "0", "--seed", "5")[1]


def test_a_prompt_may_come_from_standard_input(run, folder, monkeypatch):
    line = ("--model", folder, "--max-tokens", "8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello"))
    assert run("chat", *line)[1] == run("chat", "Hello", *line)[1]


def test_on_a_terminal_it_is_a_conversation(run, folder, monkeypatch):
    lines = iter(["Hello", "", "word " * 200, "And?"])

    def read(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", read)
    code, out, err = run("chat", "--model", folder, "--max-tokens", "6", "--temperature", "0", "--context", "400")
    assert code == 0 and "400 tokens" in err
    alone = run("chat", "Hello", "--model", folder, "--max-tokens", "6", "--temperature", "0", "--context", "400")[1]
    assert out.startswith(alone) and len(out) > len(alone) + 2


def test_mistakes_are_told(refuses, folder, recording, tmp_path, tiny_moshi_folder):
    refuses("chat", " ", "--model", folder, says=["prompt", "empty"])
    refuses("chat", "Hi", "--model", tmp_path / "none", says=[tmp_path / "none"])
    refuses("chat", "Hi", "--model", tiny_moshi_folder, says=[tiny_moshi_folder, "text decoder", "jomni talk"])
    refuses("chat", "Hi", "--model", folder, "--context", "601", says=["601", "600"])
    refuses("chat", "word " * 500, "--model", folder, says=["600 tokens"])
    refuses("talk", recording, "--model", folder, says=[folder, "codec"])
    refuses("convert", folder, tmp_path / "dst", "--to", "kyutai", says=["'kyutai'", "hf"])


def test_a_model_without_a_tokenizer_says_so(refuses, tmp_path_factory):
    path = tmp_path_factory.mktemp("bare") / "bare"
    jomni.save(dataclasses.replace(checkpoint(), files={}), path, "hf")
    refuses("chat", "Hi", "--model", path, says=["tokenizer.json"])


def test_info_describes_a_decoder_and_convert_keeps_it(run, folder, tmp_path):
    code, out, _ = run("info", folder)
    assert code == 0 and "Qwen 2, a text decoder" in out
    assert f"text decoder: {checkpoint().num_parameters():,} parameters, stored as float32" in out
    assert "260 tokens, head tied to the embedding" in out and "context 600 tokens" in out
    assert run("convert", folder, tmp_path / "dst", "--to", "hf", "--dtype", "bfloat16")[0] == 0
    assert "stored as bfloat16" in run("info", tmp_path / "dst")[1]
    assert run("chat", "Hi", "--model", tmp_path / "dst", "--max-tokens", "3")[0] == 0
