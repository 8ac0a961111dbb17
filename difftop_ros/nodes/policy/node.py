"""The policy node's process: what it does beside callbacks, its priority, its exit code. The node is in lifecycle.py.

python -m difftop_ros.nodes.policy.node --ros-args -p model:=models/panda_lift -p autostart:=true
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from difftop_ros import signals
from difftop_ros.nodes.process import run_node

if TYPE_CHECKING:
    from difftop_ros.nodes.policy.lifecycle import PolicyNode


class PolicyProgram:
    """The process of a PolicyNode: runs until a signal or the end of autostart; `status` is told of the node."""

    def __init__(self, node: PolicyNode, status: Callable[[PolicyNode], None]) -> None:
        self._node, self._status = node, status
        self._parent = 0 if signals.under_nohup() else os.getppid()
        raise_priority(node.value("realtime_priority"), node.value("planner_process"))

    def turn(self, signals: int) -> bool:
        """See Program."""
        self._status(self._node)
        if self._parent and os.getppid() != self._parent:  # nobody is left who could end it
            self._node.get_logger().error("ending: the process that started this node has ended")
            return False
        return not signals and not self._node.autostart.finished

    def end(self) -> int:
        """See Program."""
        self._node.end()
        self._node.tasks.deliver()
        return self._node.autostart.exit_code


def raise_priority(priority: int, planner_apart: bool) -> bool:
    """Give this process's threads SCHED_FIFO `priority`, and those yet to start; False where not permitted.

    All of them, not the control thread alone: it needs Python's interpreter lock, and whoever holds that must not be
    kept from the CPU by another program. So only when the planner, which computes, is in a process of its own.
    """
    if not priority or not planner_apart or not hasattr(os, "sched_setscheduler"):
        return False
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(priority))  # inherited by new ones
    except OSError:
        return False
    return True


def _make_node() -> PolicyNode:
    from difftop_ros.nodes.policy.lifecycle import PolicyNode  # needs rclpy, which run_node has made ready

    return PolicyNode()


def main(arguments: list[str] | None = None, status: Callable[[PolicyNode], None] = lambda node: None) -> int:
    """Run the node until SIGINT, SIGTERM or the end of autostart; the exit code. status: called ten times a second."""
    return run_node(_make_node, lambda node: PolicyProgram(node, status), arguments)


if __name__ == "__main__":
    sys.exit(main())
