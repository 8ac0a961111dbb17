"""One ROS parameter as data, and how a node declares a table of them. The tables stand beside their nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from difftop_ros.errors import UserError


@dataclass(frozen=True)
class Parameter:
    """One parameter: `bounds` for numbers, `choices` for strings; `live` ones may change while the node runs.

    `dynamic`: values of another type than the default's are let through; whoever reads it checks.
    """

    name: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] | None = None
    live: bool = False
    dynamic: bool = False


def declare(node: Any, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Declares `parameters` with their descriptors on an rclpy node and returns their values.

    Raises UserError for a value of the wrong type, out of bounds or not among the choices.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    values = {}
    for parameter in parameters:
        descriptor = ParameterDescriptor(
            description=parameter.description, read_only=not parameter.live, dynamic_typing=parameter.dynamic
        )
        if parameter.bounds and isinstance(parameter.default, float):
            low, high = parameter.bounds
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif parameter.bounds:
            low, high = parameter.bounds
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        if parameter.choices:
            descriptor.additional_constraints = f"one of {list(parameter.choices)}"
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
        except InvalidParameterTypeException as error:
            example = parameter.default if parameter.default != "" else "'text'"
            raise UserError(
                f"parameter '{parameter.name}' is of another type than its default {example!r} "
                f"({parameter.description}); write a value of that type, such as 1.0 rather than 1 for a decimal number"
            ) from error
        except InvalidParameterValueException as error:
            raise UserError(
                f"parameter '{parameter.name}' is out of its bounds {parameter.bounds} ({parameter.description})"
            ) from error
        if parameter.choices and value not in parameter.choices:
            raise UserError(f"parameter '{parameter.name}' is '{value}'; choose one of {list(parameter.choices)}")
        values[parameter.name] = value
    return values
