"""Process entry of the policy node: environment, signals, executor, exit code. The node is policy_node_lifecycle.py.

python -m difftop_ros.nodes.policy.main --ros-args -p model:=models/panda_lift -p autostart:=true
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from difftop_ros.errors import UserError
from difftop_ros.nodes.environment import prepare


def run_node(ros_args: list[str] | None, status: Callable[[Any], None] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM or the end of autostart; the exit code.

    ros_args as for rclpy.init, None for the process's own; status(node) is called about ten times a second.
    """
    prepare()
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from difftop_ros.nodes.policy.node import PolicyNode

    # Our own handlers: rclpy's would shut the context down, and then no safe command could be sent.
    rclpy.init(args=ros_args, signal_handler_options=SignalHandlerOptions.NO)
    asked = threading.Event()
    before = {s: signal.signal(s, lambda *_: asked.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    node = None
    try:
        try:
            node = PolicyNode()
        except ParameterException as error:
            raise UserError(f"{error}; config/policy_node.yaml tells types and bounds (a float has a point)") from None
        raise_priority(node.get_parameter("realtime_priority").value, node.get_parameter("planner_process").value)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not asked.is_set() and not node.finished:
            executor.spin_once(timeout_sec=0.1)
            if status is not None:
                status(node)
        return node.exit_code
    except ExternalShutdownException:
        return 0
    finally:
        if node is not None:
            node.end()
            node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


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


def main(args: list[str] | None = None) -> None:
    """Console entry."""
    try:
        code = run_node(args)
    except UserError as error:
        print(f"difftop: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
