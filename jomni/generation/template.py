"""Chat templates, which turn a conversation into the text that a model continues.

A template is a program from the weights' publisher, so it runs in jinja2's immutable sandbox. It can use what
transformers provides (utils/chat_template_utils.py): loop controls, `tojson`, `raise_exception`, `strftime_now` and the
tag `generation`, which marks the assistant's words for training and has no effect here.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from jomni.errors import PromptError, WeightsError

Message = Mapping[str, Any]
"""One turn: "role" ("system", "user", "assistant") and "content", its text."""


def render(
    template: str, messages: Sequence[Message], special: Mapping[str, Any], *, add_generation_prompt: bool = True
) -> str:
    """Return a conversation as text in the format of a chat template.

    Args:
      template: the model's chat template.
      messages: the turns.
      special: the tokenizer's special tokens by name, such as "bos_token".
      add_generation_prompt: end with the beginning of the assistant's turn.

    Raises:
      PromptError: the template rejects the conversation; the message has its reason.
      WeightsError: the template has a syntax error.
    """
    try:
        return _compile(template).render(
            messages=[dict(message) for message in messages], tools=None, documents=None,
            add_generation_prompt=add_generation_prompt, **special,
        )  # fmt: skip
    except jinja2.TemplateSyntaxError as error:
        raise WeightsError(f"the chat template is damaged ({error}). Download the tokenizer's files again.") from None
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise PromptError(f"the model's chat template rejects the conversation: {error}") from None


class _Generation(jinja2.ext.Extension):
    """Extension for `{% generation %} ... {% endgeneration %}`, which renders its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja2's own form)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json  # jinja2's filter would escape HTML
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(template)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
             sort_keys: bool = False) -> str:  # fmt: skip
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
