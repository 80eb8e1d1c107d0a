"""Arguments and help texts."""

import subprocess
import sys

import pytest

from jomni.cli.parser import COMMANDS, command_parser, help_texts, parse


def test_every_documented_form_of_talk_is_understood():
    options = parse([
        "talk", "a.wav", "b.wav", "--out", "d", "--model", "m", "--seed", "3", "--temperature", "0.5",
        "--text-temperature", "0", "--plot", "--tail", "4.5", "--device", "cuda:1", "--dtype", "bfloat16", "--force",
    ])  # fmt: skip
    assert [str(path) for path in options.inputs] == ["a.wav", "b.wav"]
    assert (str(options.out), options.model, options.seed, options.temperature) == ("d", "m", 3, 0.5)
    assert (options.text_temperature, options.plot, options.tail, options.force) == (0.0, True, 4.5, True)
    assert (options.device, options.dtype) == ("cuda:1", "bfloat16")


@pytest.mark.parametrize(
    "line", ["talk --model m a.wav b.wav", "talk a.wav --plot b.wav --model m", "talk --model=m --plot a.wav b.wav"]
)
def test_options_may_stand_before_between_and_after_recordings(line):
    assert [str(path) for path in parse(line.split()).inputs] == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("line", "word"),
    [("", "COMMAND"), ("sing", "invalid choice"), ("encode a b c --model m", "c"), ("eval", "WHAT"),
     ("encode a b --model m --codebooks 0", "at least 1"),
     ("encode a b --model m --codebooks many", "'many'"), ("decode a b --model m --speed 2", "--speed"),
     ("talk a --model m --tail 21", "from 0 to 20"), ("talk a --model m --tail -1", "from 0 to 20"),
     ("talk a --model m --temperature nan", "'nan'"), ("talk a --model m --temperature -0.1", "from 0"),
     ("talk a --model m --seed -1", "from 0 to 2147483647"), ("talk a --model m --dtype int3", "int3"),
     ("talk a --model m --device my-gpu", "my-gpu"), ("convert a b --to torch", "torch"), ("info a b", "b")],
)  # fmt: skip
def test_arguments_without_sense_are_answered_in_two_lines_and_exit_with_2(line, word, run):
    code, out, err = run(*line.split())
    assert code == 2 and not out and word in err
    assert len(err.splitlines()) == 2 and err.splitlines()[1].endswith("--help' explains the arguments.")


@pytest.mark.parametrize("command", list(help_texts()))
def test_help_texts_have_an_example_that_parses_and_fit_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_texts()[command]
    lines = text.replace("\\\n", " ").splitlines()
    example = next(line for line in lines if line.startswith("  jomni "))
    assert parse(example.split()[1:]).command == command or not command
    for line in text.splitlines():
        assert len(line) <= 80, line


def test_every_option_says_its_default_or_that_it_is_required():
    for name in COMMANDS:
        options = [a for a in command_parser(name)._actions if a.option_strings and a.dest != "help"]
        assert options or name in ("info", "train"), name
        for action in options:
            assert "(default:" in action.help or action.help.endswith("(required)"), (name, action.dest)


def test_help_and_version_exit_with_0(run):
    assert run("--help")[0] == run("talk", "--help")[0] == run("--version")[0] == 0


@pytest.mark.parametrize("arguments", [["--help"], ["talk", "--help"], ["train", "--help"]])
def test_help_comes_without_importing_jax(arguments):
    code = f"import sys; from jomni.cli.main import main; main({arguments}); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_nano_is_the_default_model():
    for line in ("talk a.wav", "encode a b", "decode a b", "tokenize a b", "info", "eval talk tests --out r"):
        assert parse(line.split()).model == "nano", line
