"""Reads a contract from YAML; every complaint names file, line, key, what was got and what to do."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from difftop_ros.contract.base import Section
from difftop_ros.contract.model import Contract
from difftop_ros.contract.observations import KINDS
from difftop_ros.errors import UserError
from difftop_ros.plain_yaml import Document, parse_yaml, read_yaml

MOST_FINDINGS = 20  # told of one file


class ContractError(UserError):
    """The contract cannot be read or breaks a rule; the message has one line per finding."""


def load_contract(path: str | Path) -> Contract:
    """Read and validate the contract at `path`. Raises ContractError naming the line of every finding."""
    return _validated(read_yaml(path, "contract", ContractError), str(path))


def parse_contract(text: str, source: str = "<contract>") -> Contract:
    """Validate contract YAML `text`; `source` is named in errors. Raises ContractError."""
    return _validated(parse_yaml(text, source, ContractError), source)


def _validated(document: Document, source: str) -> Contract:
    data, root = document.data, document.root
    if not isinstance(data, dict) or root is None:
        raise ContractError(f"{source}:1: expected a mapping with 'name', 'rate_hz', 'command', …, got {data!r:.80}")
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        findings = error.errors(include_url=False)
        lines = [_sentence(source, root, finding) for finding in findings[:MOST_FINDINGS]]
        if len(findings) > MOST_FINDINGS:
            lines.append(f"{source}: and {len(findings) - MOST_FINDINGS} more")
        raise ContractError("\n".join(lines)) from None


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


def _known_keys() -> list[str]:
    """Every key of every section."""
    found: set[str] = set()
    waiting: list[type[Section]] = [Section]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found.update(*(section.model_fields for section in below))
    return sorted(found)
