"""What our launch files share: the DDS environment of nodes, parameters as arguments. Used from launch/*.launch.py.

Lives here: actions that need a running launch context, and arguments made from a node's table of parameters. Not here:
other arguments and nodes, which each launch file shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from difftop_ros.errors import UserError
from difftop_ros.nodes.environment import ros_environment
from difftop_ros.nodes.parameters import Parameter
from difftop_ros.paths import share_path
from difftop_ros.plain_yaml import parse_yaml


def dds_environment() -> Any:
    """An action that sets, for all nodes after it, the DDS profile and, with local_only:=true, LOCALHOST discovery.

    Needs the launch argument `local_only`. A profile that the user has set is kept.
    """
    from launch.actions import OpaqueFunction, SetEnvironmentVariable
    from launch.conditions import evaluate_condition_expression
    from launch.substitutions import LaunchConfiguration

    def actions(context: Any) -> list[Any]:
        local_only = evaluate_condition_expression(context, [LaunchConfiguration("local_only")])
        wanted = ros_environment(local_only=local_only)
        return [SetEnvironmentVariable(name, wanted[name]) for name in wanted if os.environ.get(name) != wanted[name]]

    return OpaqueFunction(function=actions)


def end_launch(reason: str) -> Any:
    """An action for `on_exit` of a node without which the rest is of no use: shuts the launch down, once."""
    from launch.actions import OpaqueFunction, Shutdown

    return OpaqueFunction(function=lambda context: [] if context.is_shutdown else [Shutdown(reason=reason)])


def with_share_paths(text: str) -> str:
    """A robot's description with package://difftop_ros/… made into paths, for plugins that read no such names."""
    return text.replace("package://difftop_ros", str(share_path()))


def parameter_arguments(table: Iterable[Parameter], renamed: Mapping[str, str] | None = None) -> list[Any]:
    """A launch argument for each parameter; '' leaves it as the file has it. renamed: parameter -> argument."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument((renamed or {}).get(p.name, p.name), default_value="", description=p.text) for p in table
    ]


def given(context: Any, table: Iterable[Parameter], renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The parameters whose arguments are not '', by name, of their defaults' types. Raises UserError for another."""
    values = {}
    for parameter in table:
        name = (renamed or {}).get(parameter.name, parameter.name)
        text = context.launch_configurations.get(name, "")
        if text:
            values[parameter.name] = _typed(name, text, parameter.default)
    return values


def _typed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    value = parse_yaml(text, f"launch argument {name}").data
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise UserError(f"launch argument {name}:={text}: expected a value such as {default!r}")
    return value
