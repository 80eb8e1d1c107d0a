"""Configuration files, and overrides such as `--task.optimizer.lr 3e-4`, checked against the annotations."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.util
import inspect
import io
import itertools
import json
import os
import re
import runpy
import sys
import tokenize
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jomni.errors import ConfigError
from jomni.train.config import TrainConfig

_QUOTED = re.compile(r"""((?:^|[(\[,])\s*)(["'])((?:\\.|(?!\2)[^\\])*)\2(?=\s*(?:[)\],]|$))""", re.DOTALL)
"""An item of a list in quotes; elsewhere a quote is a character like others, as in "it's.parquet"."""
_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}


def named_configs() -> dict[str, Path]:
    """Return the configurations that come with jomni, such as "tiny_lm" and "nano/lm", with their files."""
    package = importlib.util.find_spec("jomni.configs")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    }
    return {name: path for name, path in found.items() if not name.endswith("__init__")}


def read_config(source: str | Path) -> TrainConfig:
    """Run a configuration and return the result of its `get_config()`.

    Args:
      source: the name of a configuration that comes with jomni, such as "tiny_lm" or "nano/lm", or a Python file. A
        file may import modules beside it.

    Raises:
      ConfigError: there is no such file or name, it fails, or its `get_config` does not return a `TrainConfig`.
    """
    named = named_configs()
    path = named.get(str(source), Path(source))
    if not path.is_file():
        near = difflib.get_close_matches(str(source), named, 1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{source}: is neither a configuration file nor a name.{meant} Known names: {', '.join(sorted(named))}."
        )
    try:
        with _importing_from(path.parent.resolve()):
            found = runpy.run_path(str(path))
            if not callable(found.get("get_config")):
                raise ConfigError(f"{path}: has no function get_config(); it must return a TrainConfig.")
            config = found["get_config"]()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: fails with {type(error).__name__}: {error}") from error
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path}: get_config() returned a {type(config).__name__}; it must be a TrainConfig.")
    return config


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported, and forget them: the next folder may have others of the same names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == folder:
                del sys.modules[name]


def override(config: Any, arguments: Sequence[str]) -> Any:
    """Return the configuration with fields replaced.

    Args:
      config: a dataclass of dataclasses.
      arguments: "--a.b", "value" or "--a.b=value", as on a command line; "none" stands for None. Items of a list have
        commas between, and may have brackets around all of them: "1,2,3" or "[1, 2, 3]". A comma within brackets is
        an item's own, as in "x{1,2}y"; an item that would be taken apart nevertheless is put in quotes: '["a,b", "c"]',
        in which a backslash stands before a quote or another backslash.

    Raises:
      ConfigError: a field that does not exist (with names near it), or a value that is not of its type.
    """
    tree: dict[str, Any] = {}
    for name, text in _pairs(arguments):
        at = tree
        *groups, last = name.split(".")
        for group in groups:
            at = at.setdefault(group, {})
            if not isinstance(at, dict):
                raise ConfigError(f"--{name}: a value is given to '{group}' itself too. Give one or the other.")
        if isinstance(at.get(last), dict):
            raise ConfigError(f"--{name}: values are given to its fields too. Give one or the other.")
        at[last] = text
    return _replace(config, tree, "", [name for name, *_ in fields(config)])


def fields(config: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str, bool]]:
    """Every field: (dotted name, type, value as `override` reads it, comment, whether a resumed run may change it)."""
    comments, hints = _comments(type(config)), typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if _is_group(value):
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
    """Return a value as `override` reads it, a list in its simplest form that is read as the same."""
    if not isinstance(value, tuple):
        return "none" if value is None else str(value)
    plain = ",".join(map(str, value))
    quoted = ", ".join('"' + re.sub(r'(["\\])', r"\\\1", str(item)) + '"' for item in value)
    for text in (plain, f"[{plain}]", f"[{quoted}]"):
        with contextlib.suppress(ConfigError):
            if _parse(text, hint, "") == value:
                return text
    return plain  # of what no command line can give


def to_dict(config: Any) -> Any:
    """Return the configuration in JSON's types, the class of each group under "type"."""
    if _is_group(config):
        values = {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": type(config).__name__} | values
    if isinstance(config, tuple | list):
        return [to_dict(value) for value in config]
    return config if isinstance(config, bool | int | float | str | None) else str(config)


def keep_config(config: TrainConfig, folder: Path) -> list[str]:
    """Write config.json to the run's folder; where something has been learnt there, it has to fit.

    Returns:
      What the optimiser does otherwise from now on, for people.

    Raises:
      ConfigError: it differs in more than fields that do not change what has been learnt.
    """
    path = folder / "config.json"
    new, told = to_dict(config), []
    if path.is_file() and any(c.name.isdigit() for c in (folder / "checkpoints").glob("*")):
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}: is damaged ({error}). Remove the folder, or choose another --name.") from None
        allowed = {".".join(name) for name in _harmless(config)}
        # A field that the run did not know yet, because this jomni is newer, changes nothing at its default.
        before, after = _leaves(old), _leaves(new)
        before = {k: v for k, v in _defaults(config).items() if k in after} | before
        changed = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
        refused = [k for k in changed if not any(k == a or k.startswith(a + ".") for a in allowed)]
        if refused:
            lines = "".join(f"\n  {k}: {before.get(k)!r} there, {after.get(k)!r} now" for k in refused)
            raise ConfigError(
                f"{folder}: holds a run of another configuration:{lines}\n"
                "Choose another --name, give the former values, or remove the folder."
            )
        told = [f"{k} is {after[k]!r}, not {before[k]!r}" for k in changed if "optimizer." in k and k in before]
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)
    return told


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
        group = value if _is_group(value) else _default_group(hint)
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
    """Return the items of a list, as `override` describes it; nothing between two commas is none."""
    text = text.strip()
    # The same text with something else wherever no bracket or comma has a meaning: in quotes, or after a backslash.
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
    """Return where each bracket is closed that is. A bracket without another is a character like others."""
    pairs, opened = dict[int, int](), list[int]()
    for at, char in enumerate(text):
        if char in _CLOSED_BY:
            opened.append(at)
        elif fitting := [index for index in opened if _CLOSED_BY[text[index]] == char]:
            pairs[fitting[-1]] = at
            del opened[opened.index(fitting[-1]) :]
    return pairs


def _arms(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, lists and text last because everything can be one."""
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return tuple(sorted(arms, key=lambda arm: (arm is str, typing.get_origin(arm) is tuple)))


def _type_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "none"}
    if typing.get_origin(hint) is tuple:
        return "a list with commas between, as 1,2,3"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _is_group(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _allows_none(hint: Any) -> bool:
    return type(None) in _arms(hint)


def _default_group(hint: Any) -> Any:
    """Return the group that an optional field would hold, with its defaults."""
    for arm in _arms(hint):
        if isinstance(arm, type) and dataclasses.is_dataclass(arm):
            try:
                return arm()
            except TypeError:
                return None
    return None


def _harmless(config: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in dataclasses.fields(config):
        if field.metadata.get("mutable_on_resume"):
            yield (*prefix, field.name)
        elif _is_group(getattr(config, field.name)):
            yield from _harmless(getattr(config, field.name), (*prefix, field.name))


def _defaults(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of every field that has a default, in JSON's types."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value, default = f"{prefix}{field.name}", getattr(config, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if _is_group(value):
            found |= _defaults(value, f"{name}.")
        if default is not dataclasses.MISSING:
            found |= _leaves(to_dict(default), f"{name}.")
    return found


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {name: leaf for key, value in tree.items() for name, leaf in _leaves(value, f"{prefix}{key}.").items()}


def _comments(kind: type) -> dict[str, str]:
    """Return the comment behind each field of a dataclass, from its source."""
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
