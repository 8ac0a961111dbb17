"""What our launch files share: the DDS environment of the nodes they start. Used from launch/*.launch.py only.

Lives here: actions that need a running launch context. Not here: arguments and nodes, which each launch file shows.
"""

from __future__ import annotations

import os
from typing import Any

from difftop_ros.nodes.environment import ros_environment


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
