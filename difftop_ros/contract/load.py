"""Reads a contract from YAML; every complaint names file, line, key, what was got and what to do."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from difftop_ros.contract.model import Contract
from difftop_ros.contract.observations import KINDS, Section
from difftop_ros.errors import UserError


class ContractError(UserError):
    """The contract cannot be read or breaks a rule; the message has one line per finding."""


def load_contract(path: str | Path) -> Contract:
    """Read and validate the contract at `path`. Raises ContractError naming the line of every finding."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ContractError(f"contract {str(path)!r} does not exist; give the path of a YAML contract") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"contract {str(path)!r} cannot be read: {error}") from None
    return parse_contract(text, str(path))


def parse_contract(text: str, source: str = "<contract>") -> Contract:
    """Validate contract YAML `text`; `source` is named in errors. Raises ContractError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ContractError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict) or root is None:
        raise ContractError(f"{source}:1: expected a mapping with 'name', 'rate_hz', 'command', …, got {data!r:.80}")
    twice = _duplicate_keys(root)
    if twice:
        lines = [f"{source}:{line}: key '{key}' stands twice; keep one" for key, line in twice]
        raise ContractError("\n".join(lines))
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        findings = error.errors(include_url=False)
        raise ContractError("\n".join(_sentence(source, root, finding) for finding in findings)) from None


def _sentence(source: str, root: yaml.Node, finding: Any) -> str:
    path, line = _locate(root, finding["loc"])
    key = ".".join(path) or "contract"
    kind, got = finding["type"], finding["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _known_keys(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "; remove it"
        return f"{source}:{line}: unknown key '{key}'{hint}"
    if kind == "missing":
        return f"{source}:{line}: '{key}' is missing; add it"
    if kind.startswith("union_tag"):
        expected = ", ".join(repr(known) for known in KINDS)
        tag = got.get("kind") if isinstance(got, dict) else got
        return f"{source}:{line}: '{key}.kind' is {tag!r}; expected one of {expected}"
    message = finding["msg"].removeprefix("Value error, ")
    shown = "" if kind == "value_error" else f" is {got!r:.80};"
    return f"{source}:{line}: '{key}'{shown} {message[:1].lower() + message[1:]}"


def _locate(root: yaml.Node, loc: tuple[Any, ...]) -> tuple[list[str], int]:
    """The dotted path of a pydantic location and its 1-based line; union tags in the location are passed over."""
    node, line, path = root, root.start_mark.line + 1, []
    for position, part in enumerate(loc):
        found = _child(node, part)
        if found is not None:
            node, line = found
            path.append(str(part))
        elif position == len(loc) - 1:
            path.append(str(part))
    return path, line


def _child(node: yaml.Node, part: Any) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _duplicate_keys(node: yaml.Node) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                found.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
            found += _duplicate_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            found += _duplicate_keys(value)
    return found


def _known_keys() -> list[str]:
    """Every key of every section."""
    found: set[str] = set()
    waiting: list[type[Section]] = [Section]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found.update(*(section.model_fields for section in below))
    return sorted(found)
