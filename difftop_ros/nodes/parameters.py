"""One ROS parameter as data, and what is made of a table of them: declarations, checks, parameter files.

The tables stand beside their nodes. `python -m difftop_ros.nodes.parameters` writes the files in config/ from them.
"""

from __future__ import annotations

import difflib
import importlib
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftop_ros.errors import UserError

# file -> module with its table PARAMETERS and its HEAD, the sentences on top
FILES = {
    "config/policy_node.yaml": "difftop_ros.nodes.policy.parameters",
    "config/sim_bridge.yaml": "difftop_ros.nodes.simulation.bridge.parameters",
    "config/trainer_node.yaml": "difftop_ros.nodes.trainer.parameters",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter: `bounds` for numbers, `choices` for strings; `live` ones may change after the node's start.

    `dynamic`: values of another type than the default's are let through; whoever reads it checks.
    """

    name: str
    default: Any
    text: str
    bounds: tuple[float, float] | None = None
    unit: str = ""
    choices: tuple[str, ...] | None = None
    live: bool = False
    dynamic: bool = False

    @property
    def kind(self) -> str:
        """Its type as users write it: bool, int, float, string, or list of them."""
        if isinstance(self.default, list):
            return f"list of {Parameter('', self.default[0], '').kind}"
        return type(self.default).__name__.replace("str", "string")

    @property
    def facts(self) -> list[str]:
        """Type, bounds, unit and choices, each as a few words."""
        return [
            self.kind,
            *([f"{self.bounds[0]:g} to {self.bounds[1]:g}"] if self.bounds else []),
            *([f"unit {self.unit}"] if self.unit else []),
            *(["one of " + ", ".join(choice or "''" for choice in self.choices)] if self.choices else []),
        ]


def declare(node: Any, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Declares `parameters` with their descriptors on an rclpy node and returns their values.

    Raises UserError for a value of the wrong type, out of bounds or not among the choices.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    values = {}
    for parameter in parameters:
        name, told = parameter.name, f"{parameter.text} [{', '.join(parameter.facts)}]"
        try:
            value = node.declare_parameter(name, parameter.default, _descriptor(parameter)).value
        except InvalidParameterTypeException as error:
            example = parameter.default if parameter.default != "" else "'text'"
            raise UserError(
                f"parameter '{name}' is of another type than its default {example!r} ({told}); write a value of that "
                "type, such as 1.0 rather than 1 for a decimal number"
            ) from error
        except InvalidParameterValueException as error:
            raise UserError(f"parameter '{name}' is out of its bounds {parameter.bounds} ({told})") from error
        refusal = refused(parameter, value)
        if refusal:
            raise UserError(f"parameter '{name}' is {refusal}")
        values[name] = value
    return values


def refused(parameter: Parameter, value: Any) -> str:
    """Why `value` is not among the parameter's choices, '' if it may be set."""
    if not parameter.choices or value in parameter.choices:
        return ""
    return f"'{value}'; choose one of {list(parameter.choices)}"


def _descriptor(parameter: Parameter) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(
        description=f"{parameter.text} [{parameter.unit}]" if parameter.unit else parameter.text,
        read_only=not parameter.live, dynamic_typing=parameter.dynamic,
    )  # fmt: skip
    if parameter.bounds and isinstance(parameter.default, float):
        low, high = parameter.bounds
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif parameter.bounds:
        low, high = parameter.bounds
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    if parameter.choices:
        descriptor.additional_constraints = f"one of {list(parameter.choices)}"
    return descriptor


def assignment(parameters: Iterable[Parameter], text: str) -> str:
    """`text` ('NAME:=VALUE' of a command line) as ROS wants it: whole numbers of a float parameter get a point.

    Raises UserError for another form and for a name that no parameter has, which ROS would pass over in silence.
    """
    name, separator, value = text.partition(":=")
    if not separator:
        raise UserError(f"parameter {text!r} is not of the form NAME:=VALUE, such as deadline_ms:=20.0")
    known = {parameter.name: parameter for parameter in parameters}
    if name not in known and name != "use_sim_time":
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        raise UserError(f"unknown parameter '{name}'; {hint}")
    whole = name in known and isinstance(known[name].default, float) and value.lstrip("+-").isdigit()
    return f"{name}:={value}.0" if whole else text


def render_yaml(head: str, module: str, parameters: Sequence[Parameter]) -> str:
    """The text of a parameter file for whatever name and namespace the node has; `head`: what it says on top."""
    made = f"Made from {module.replace('.', '/')}.py by `python -m difftop_ros.nodes.parameters`; a test compares."
    lines = [f"# {line}" for line in textwrap.wrap(f"{head} {made}", 118)] + ["/**:", "  ros__parameters:"]
    for parameter in parameters:
        facts = [*parameter.facts, *(["live"] if parameter.live else [])]
        lines += textwrap.wrap(f"[{'; '.join(facts)}] {parameter.text}", 110, initial_indent="    # ",
                               subsequent_indent="    # ")  # fmt: skip
        lines.append(f"    {parameter.name}: {json.dumps(parameter.default)}")
    return "\n".join(lines) + "\n"


def rendered() -> dict[str, str]:
    """File below the source folder -> the text it must have."""
    result = {}
    for file, module in FILES.items():
        table = importlib.import_module(module)
        result[file] = render_yaml(table.HEAD, module, table.PARAMETERS)
    return result


if __name__ == "__main__":
    for file, text in rendered().items():
        (Path(__file__).resolve().parents[2] / file).write_text(text)
        print(f"wrote {file}")
