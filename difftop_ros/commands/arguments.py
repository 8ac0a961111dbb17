"""How `difftop` reads its command line: defaults in every help, and a near word for a misspelt one."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any

# Simulators that somebody else runs -> the shipped contract of the demo's arm there, '' for none.
FOREIGN = {"gazebo": "config/panda_gazebo.yaml", "isaac": "config/panda_isaac.yaml", "topics": ""}

OBSTACLES = ("none", "post", "bar", "box", "ceiling", "moving_post")  # what may stand in the demo arm's way


def add_engine(parser: argparse._ActionsContainer, *, foreign: bool = False) -> None:
    """The option --engine, see `task_of`; foreign: with simulators that run already, under the name --sim too."""
    text = "who simulates the demo's tasks; drake runs the world that is written for Gazebo"
    if foreign:
        text += (
            "; gazebo, isaac and topics: a simulator that runs already and serves simulation_interfaces "
            "(docs/how-to/other_simulators.md)"
        )
        parser.add_argument(
            "--success-when", default="", metavar="CONDITION",
            help="with such a simulator: success by a body's place, such as 'cube.z > 0.12' (default: the contract's "
            "success_topic)",
        )  # fmt: skip
    names = ("--engine", "--sim") if foreign else ("--engine",)
    choices = ("mujoco", "drake", *(FOREIGN if foreign else ()))
    parser.add_argument(*names, choices=choices, default="mujoco", help=text)


def their_contract(engine: str) -> Any:
    """Path of the shipped contract of the demo's arm in a simulator that somebody else runs; None if there is none."""
    from difftop_ros.paths import share_path

    return share_path(FOREIGN[engine]) if FOREIGN.get(engine) else None


def task_of(engine: str, task: str | None, contract: Any) -> str | None:
    """The task's full name for an engine; None leaves it to the contract."""
    from difftop_ros.sim import ENGINES

    before = ENGINES.get(engine, "")
    task = task or (contract.sim.task if before else None)
    return task if not before or task is None or task.startswith(before) else f"{before}{task}"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written; an option's help ends with its default unless it tells it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help or "", action.default
        untold = default is None or isinstance(default, bool) or default in ("", [], argparse.SUPPRESS)
        if not action.option_strings or untold or "default" in text:
            return text
        if isinstance(default, (list, tuple)):
            return f"{text} (default: {' '.join(map(str, default))})"
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """A parser whose help shows defaults; its sub-parsers are of this class too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Formatter, **options})

    def refuse_misspelt(self, words: Sequence[str]) -> None:
        """Ends the program with a near word, as `error` does, for a verb, job or option that does not exist."""
        jobs = next((a for a in self._actions if isinstance(a, argparse._SubParsersAction)), None)
        for index, word in enumerate(words):
            if word == "--":
                return
            if word.startswith("--"):
                self._refuse_option(word.partition("=")[0])
            elif jobs is not None and not word.startswith("-"):
                if word not in jobs.choices:
                    self.error(f"there is no {jobs.metavar} '{word}'{_nearest(word, jobs.choices)}")
                jobs.choices[word].refuse_misspelt(words[index + 1 :])
                return

    def _refuse_option(self, word: str) -> None:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        if not any(name.startswith(word) for name in known):  # a clear beginning is enough for argparse
            self.error(f"there is no option {word}{_nearest(word, known)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
