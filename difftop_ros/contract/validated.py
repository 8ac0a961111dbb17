"""Plain data of a file as one of our sections, or a sentence for each finding."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from difftop_ros.contract.base import Section
from difftop_ros.errors import UserError

Kind = TypeVar("Kind", bound=Section)


def validated(kind: type[Kind], data: Any, where: str, error: type[UserError]) -> Kind:
    """`data` as a `kind`. Raises `error` with one line per finding, each beginning with `where`."""
    try:
        return kind.model_validate(dict(data) if isinstance(data, dict) else data)
    except ValidationError as found:
        lines = []
        for finding in found.errors(include_url=False):
            key = ".".join(str(part) for part in finding["loc"])
            if finding["type"] == "extra_forbidden":
                lines.append(f"{where}: unknown key '{key}'; expected some of {sorted(kind.model_fields)}")
            else:
                lines.append(f"{where}: '{key}' is {finding['input']!r:.60}; {finding['msg'].lower()}")
        raise error("\n".join(lines)) from None
