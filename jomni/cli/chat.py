"""`jomni chat`: text in, text out, as it comes."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from jomni.cli.arguments import Parser, add_device, add_dtype, add_seed, number, whole
from jomni.cli.console import tell
from jomni.cli.model import device, load_model, open_model
from jomni.errors import ConfigError, PromptError

if TYPE_CHECKING:
    from jomni.models.decoder.chat import Chat


def chat_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni chat`."""
    parser.description = """\
Talks in text with a language model: Qwen 2, 2.5 or 3, Llama 3, SmolLM 2, Gemma 2 or 3 (text) as Hugging Face keeps
them. With a PROMPT it gives one answer. Without, it reads one from standard input, or holds a conversation if that is a
terminal: Ctrl-C ends an answer, Ctrl-D the conversation."""
    parser.epilog = """\
Answers go to stdout as they come, everything else to stderr.

Example:
  jomni chat Hello --model Qwen/Qwen2.5-0.5B-Instruct"""
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to say to the model")
    parser.add_argument(
        "--model", metavar="M", required=True,
        help="the model: a folder or a Hugging Face repository id, with @REVISION for one revision of it (required)",
    )  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", help="system prompt (default: none, or the model's own)")
    parser.add_argument(
        "--temperature", metavar="X", type=number(0, 100),
        help="sampling temperature; 0 takes the most likely token (default: the model's own, else 0)",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", metavar="N", type=whole(1), default=512, help="longest answer in tokens (default: 512)"
    )
    add_seed(parser)
    parser.add_argument(
        "--context", metavar="N", type=whole(2),
        help="tokens that the conversation may have in all (default: 4096, or the model's most)",
    )  # fmt: skip
    add_device(parser)
    add_dtype(parser, "number format of the model")


def chat(options: Namespace) -> None:
    """Run `jomni chat`."""
    prompt = options.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = _read_all()
    if prompt is not None and not prompt.strip():
        raise PromptError("the prompt is empty. Give some text.")
    opened = open_model(options.model)
    if "decoder" not in opened.configs:
        raise ConfigError(
            f"{options.model}: is no text decoder, so it takes no text. "
            "Give one, such as Qwen/Qwen2.5-0.5B-Instruct; 'jomni talk' talks with models of speech."
        )
    import jomni

    with device(options.device) as chosen:
        checkpoint, _ = load_model(options, chosen)
        talker = jomni.Chat(checkpoint, system=options.system, seed=options.seed, context=options.context)
        for option in talker.sampling.ignored:
            told = f"jomni chat: {options.model}: its generation_config.json has {option}, not applied"
            print(told, file=sys.stderr)
        if prompt is not None:
            _answer(talker, prompt, options)
        else:
            _converse(talker, options)


def _answer(talker: Chat, text: str, options: Namespace) -> None:
    for pieces in talker.reply([text], max_tokens=options.max_tokens, temperature=options.temperature):
        tell(pieces[0])
    tell("\n")


def _converse(talker: Chat, options: Namespace) -> None:
    while True:
        try:
            text = input("> ")
        except EOFError:
            tell("\n")
            return
        if not text.strip():
            continue
        try:
            _answer(talker, text, options)
        except KeyboardInterrupt:
            tell("\n")
        except PromptError as error:
            print(f"jomni chat: {error}", file=sys.stderr)


def _read_all() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise PromptError("standard input is not valid text (UTF-8). Give it in that encoding.") from None
