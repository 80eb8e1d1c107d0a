"""Chat templates similar to published ones, test conversations, and their rendering by transformers.

`render_with_peer` needs the `peers` extra.
"""

from __future__ import annotations

from typing import Any

_CHATML = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set parts = message.content.split('</think>') %}
        {{- '<|im_start|>assistant\\n' }}
        {% generation %}
        {{- parts[-1].lstrip('\\n') + '<|im_end|>\\n' }}
        {% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
_HEADERS = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%Y')[:2] %}
{%- endif %}
{%- set ns = namespace(turns=0) %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}{%- continue %}{%- endif %}
    {%- set ns.turns = ns.turns + 1 %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + eos_token }}
{%- endfor %}
{{- '[' ~ ns.turns ~ ' turns, century ' ~ date_string ~ ', ' ~ ({'say': messages[-1].content} | tojson) ~ ']' }}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
_TURNS = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
  {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {% endif %}
  {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
<start_of_turn>{{ role }}
{{ message['content'] | trim }}<end_of_turn>
{% endfor %}
{% if add_generation_prompt %}
<start_of_turn>model
{% endif %}"""
TEMPLATES = {"chatml": _CHATML, "headers": _HEADERS, "turns": _TURNS}
"""Similar to those of Qwen and SmolLM, of Llama 3, and of Gemma."""

SPECIAL = {"bos_token": "<s>", "eos_token": "<|im_end|>"}
_ASKED = [{"role": "user", "content": '  Wie groß ist <b>"1 & 2"</b>? 😀 \n'}]
_TALKED = [
    *_ASKED, {"role": "assistant", "content": "<think>\nHm.</think>\n\nGroß."}, {"role": "user", "content": "日本?"},
]  # fmt: skip
_SYSTEM = {"role": "system", "content": "Be brief."}

CASES: dict[str, dict[str, Any]] = {
    f"{template}, {name}": {"template": template, "messages": messages, "add_generation_prompt": prompt}
    for template in TEMPLATES
    for name, messages, prompt in (
        ("one question", _ASKED, True), ("three turns", _TALKED, True), ("no prompt", _TALKED, False),
        ("system", [_SYSTEM, *_TALKED], True),
    )
    if not (template == "turns" and name == "system")
}  # fmt: skip
"""Conversations; "turns" refuses a system prompt."""


def render_with_peer(chat: dict[str, Any]) -> str:
    """Return the result of transformers' `apply_chat_template`."""
    import tokenizers
    import transformers

    bare = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare, chat_template=TEMPLATES[chat["template"]], **SPECIAL
    )
    return peer.apply_chat_template(
        chat["messages"], tokenize=False, add_generation_prompt=chat["add_generation_prompt"]
    )  # type: ignore[return-value]
