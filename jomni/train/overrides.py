"""Overrides of configuration fields, such as `--task.optimizer.lr 3e-4`, checked against the annotations.

tyro also reads dataclasses, but does not fit: it fixes a field whose annotation is a base class (`task`), makes
a subcommand of an optional group, and reads a list as several arguments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import re
import tokenize
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jomni.errors import ConfigError

_QUOTED = re.compile(r"""((?:^|[(\[,])\s*)(["'])((?:\\.|(?!\2)[^\\])*)\2(?=\s*(?:[)\],]|$))""", re.DOTALL)
"""A quoted item of a list. Elsewhere a quote is an ordinary character, as in "it's.parquet"."""
_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}


def override(config: Any, arguments: Sequence[str]) -> Any:
    """Return the configuration with fields replaced.

    Args:
      config: a dataclass of dataclasses.
      arguments: "--a.b", "value" or "--a.b=value", as on a command line. "none" means None. Items of a list are
        separated by commas, with optional brackets around the list: "1,2,3" or "[1, 2, 3]". A comma within brackets
        belongs to its item, as in "x{1,2}y". Items may be quoted: '["a,b", "c"]'; in quotes a backslash escapes a
        quote or a backslash.

    Raises:
      ConfigError: a field does not exist (the message names similar ones), or a value has the wrong type.
    """
    tree: dict[str, Any] = {}
    for name, text in _pairs(arguments):
        at = tree
        *groups, last = name.split(".")
        for group in groups:
            at = at.setdefault(group, {})
            if not isinstance(at, dict):
                raise ConfigError(f"--{name}: '{group}' itself is also given a value. Give one or the other.")
        if isinstance(at.get(last), dict):
            raise ConfigError(f"--{name}: its fields are also given values. Give one or the other.")
        at[last] = text
    return _replace(config, tree, "", [name for name, *_ in fields(config)])


def fields(config: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str, bool]]:
    """Yield (dotted name, type, value as text for `override`, comment, whether it may change on resume) per field."""
    comments, hints = _comments(type(config)), typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if is_group(value):
            yield from fields(value, name + ".")
        else:
            said = shown(value, hints[field.name])
            yield (
                name,
                str(field.type),
                said,
                comments.get(field.name, ""),
                bool(field.metadata.get("mutable_on_resume")),
            )


def shown(value: Any, hint: Any) -> str:
    """Return a value as text that `override` reads. A list has its simplest form that is read as the same value."""
    if not isinstance(value, tuple):
        return "none" if value is None else str(value)
    plain = ",".join(map(str, value))
    quoted = ", ".join('"' + re.sub(r'(["\\])', r"\\\1", str(item)) + '"' for item in value)
    for text in (plain, f"[{plain}]", f"[{quoted}]"):
        with contextlib.suppress(ConfigError):
            if _parse(text, hint, "") == value:
                return text
    return plain  # no text is read as this value


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = list(arguments)
    while rest:
        head = rest.pop(0)
        if not head.startswith("--") or head == "--":
            raise ConfigError(f"{head!r} is not an option. Give fields as --name value, such as --steps 500.")
        name, equals, text = head[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{name}: its value is missing")
            text = rest.pop(0)
        yield name.replace("-", "_"), text


def _replace(config: Any, tree: dict[str, Any], prefix: str, known: list[str]) -> Any:
    hints = typing.get_type_hints(type(config))
    values: dict[str, Any] = {}
    for name, new in tree.items():
        full = prefix + name
        if name not in {f.name for f in dataclasses.fields(config)}:
            near = difflib.get_close_matches(full, known, 3, 0.5) or [k for k in known if k.endswith("." + name)][:3]
            meant = f" Did you mean --{' or --'.join(near)}?" if near else " --help after the file's name lists them."
            raise ConfigError(f"--{full}: there is no such field.{meant}")
        value, hint = getattr(config, name), hints[name]
        group = value if is_group(value) else _default_group(hint)
        if isinstance(new, dict):
            if group is None:
                raise ConfigError(f"--{full}.{next(iter(new))}: '{full}' has no fields, it is {value!r}")
            values[name] = _replace(group, new, full + ".", known)
        elif group is not None and not (new.lower() == "none" and _allows_none(hint)):
            inside = ", ".join(f"--{full}.{f.name}" for f in dataclasses.fields(group))
            raise ConfigError(f"--{full}: is a group of fields. Set one of {inside}.")
        else:
            values[name] = _parse(new, hint, full)
    try:
        return dataclasses.replace(config, **values)
    except ConfigError as error:
        raise ConfigError(f"{', '.join('--' + prefix + name for name in tree)}: {error}") from None


def _parse(text: str, hint: Any, name: str) -> Any:
    for arm in _arms(hint):
        try:
            return _convert(text, arm)
        except ValueError:
            continue
    shown = " or ".join(_type_name(arm) for arm in _arms(hint))
    raise ConfigError(f"--{name}: {text!r} is not {shown}")


def _convert(text: str, hint: Any) -> Any:
    if hint is type(None):
        if text.lower() != "none":
            raise ValueError
        return None
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if hint in (int, float, str, Path):
        return hint(text)
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        parts = _items(text)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            kinds = (kinds[0],) * len(parts)
        if len(parts) != len(kinds):
            raise ValueError
        return tuple(_convert(part, kind) for part, kind in zip(parts, kinds, strict=True))
    if typing.get_origin(hint) is typing.Literal:
        for choice in typing.get_args(hint):
            if str(choice) == text:
                return choice
    raise ValueError


def _items(text: str) -> list[str]:
    """Return the items of a list, as `override` describes it. Empty items are dropped."""
    text = text.strip()
    # `bare` has the same length, with placeholders for brackets and commas that are quoted or escaped.
    bare = _QUOTED.sub(lambda found: found[1] + "_" * (found.end() - found.end(1)), text)
    bare = re.sub(r"\\[()\[\]{}\\]", "__", bare)
    pairs = _pairs_of_brackets(bare)
    if bare[:1] in ("(", "[") and pairs.get(0) == len(text) - 1:
        text, bare = text[1:-1], bare[1:-1]
        pairs = _pairs_of_brackets(bare)
    inside = {at for start, end in pairs.items() for at in range(start, end)}
    commas = [at for at, char in enumerate(bare) if char == "," and at not in inside]
    parts = (text[start + 1 : end].strip() for start, end in itertools.pairwise([-1, *commas, len(text)]))
    return [_unquoted(part) for part in parts if part]


def _unquoted(part: str) -> str:
    found = _QUOTED.fullmatch(part)
    return re.sub(r"""\\(["'\\])""", r"\1", found[3]) if found and not found[1] else part


def _pairs_of_brackets(text: str) -> dict[int, int]:
    """Return the position of the closing bracket of each opening one. Unpaired brackets are ordinary characters."""
    pairs, opened = dict[int, int](), list[int]()
    for at, char in enumerate(text):
        if char in _CLOSED_BY:
            opened.append(at)
        elif fitting := [index for index in opened if _CLOSED_BY[text[index]] == char]:
            pairs[fitting[-1]] = at
            del opened[opened.index(fitting[-1]) :]
    return pairs


def _arms(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union. Lists and strings come last, because they accept any text."""
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return tuple(sorted(arms, key=lambda arm: (arm is str, typing.get_origin(arm) is tuple)))


def _type_name(hint: Any) -> str:
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): "none"}
    if typing.get_origin(hint) is tuple:
        return "a comma-separated list such as 1,2,3"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def is_group(value: Any) -> bool:
    """Return whether a field's value is a group of fields, which is a dataclass instance."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _allows_none(hint: Any) -> bool:
    return type(None) in _arms(hint)


def _default_group(hint: Any) -> Any:
    """Return the group of an optional field, with its defaults, or None if it has required fields."""
    for arm in _arms(hint):
        if isinstance(arm, type) and dataclasses.is_dataclass(arm):
            try:
                return arm()
            except TypeError:
                return None
    return None


def _comments(kind: type) -> dict[str, str]:
    """Return the comment after each field of a dataclass, read from its source."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            continue
        line_of = {
            token.start[0]: token.string.lstrip("# ").strip()
            for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline)
            if token.type == tokenize.COMMENT
        }
        for number, line in enumerate(inspect.cleandoc(source).splitlines(), 1):
            name = line.strip().partition(":")[0]
            if name.isidentifier() and name in base.__annotations__ and number in line_of:
                found[name] = line_of[number]
    return found
