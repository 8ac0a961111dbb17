"""The training options of all policies as lists: for the command line, the trainer node, the tables in docs.

The options themselves are fields: PolicyConfig, policies/builtin.py, learning/settings.py; tools/write_options.py
writes the files that show them. No torch here, so that `difftop train --help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from difftop_ros.learning.settings import AugmentSettings, TrainSettings
from difftop_ros.options import Option, Options
from difftop_ros.policies.config import PolicyConfig, RefiningOptions, registered

GROUPS = {"policy": "every policy", "base": "base of a policy that has one", "training": "training",
          "augmentation": "disturbances of training", "trying": "training", "latent_model": "latent model",
          "encoders": "encoders of what is observed"}  # fmt: skip


def sections() -> dict[str, list[Option]]:
    """Title -> options: those all policies share, those of a base, each policy's own, training, augmentation."""
    kinds: dict[str, type[Options]] = {"policy": PolicyConfig, "base": RefiningOptions}
    kinds |= {**registered("imitation"), "training": TrainSettings, "augmentation": AugmentSettings}
    found: dict[str, list[Option]] = {}
    seen: set[str] = set()
    for title, kind in kinds.items():
        fresh = [option for option in kind.listed() if option.name not in seen]
        seen |= {option.name for option in fresh}
        if fresh:
            found[title] = fresh
    return found


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add every option, a group per section; what is not given stays None."""
    add_sections(parser, sections())


def add_sections(parser: argparse.ArgumentParser, found: Mapping[str, Sequence[Option]]) -> None:
    """Add the options of these sections, a group each; what is not given stays None."""
    for title, options in found.items():
        group = parser.add_argument_group(GROUPS.get(title, f"options of {title}"))
        for option in options:
            kind: dict[str, Any] = {"type": int, "nargs": "+"} if option.kind is tuple else {"type": option.kind}
            text = f"{option.description} (default: {_shown(option.default)})".replace("%", "%%")
            group.add_argument(f"--{option.name.replace('_', '-')}", **kind, choices=option.choices, help=text)


def changed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of values by name those that are options and not at their default."""
    found = {}
    for options in sections().values():
        for option in options:
            value = values[option.name]
            value = tuple(value) if option.kind is tuple else value
            if value != option.default:
                found[option.name] = value
    return found


def documented() -> dict[str, list[Option]]:
    """The sections that pages have tables of: those of imitation, and those of learning by trying that are its own."""
    from difftop_ros.learning.reinforcement.settings import sections as of_trying

    return sections() | {title: found for title, found in of_trying().items() if title != "encoders"}


def table(title: str) -> str:
    """The options of a section for a page, in Markdown."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in documented()[title]:
        default = " ".join(map(str, option.default)) if option.kind is tuple else option.default
        choices = f" (one of {', '.join(f'`{c}`' for c in option.choices)})" if option.choices else ""
        shown = f"`{default}`" if default != "" else '`""`'
        rows.append(f"| `--{option.name.replace('_', '-')}` | {shown} | {option.description}{choices} |")
    return "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return "none" if default == "" else str(default)
