"""The process of a node: environment, signals, executor, errors, exit code. The same for every node of ours.

Our own signal handlers stand in place of rclpy's, which would shut the context down before a node can say farewell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

from difftop_ros import signals
from difftop_ros.errors import UserError, of_the_disk
from difftop_ros.nodes.environment import clean_shared_memory, prepare

TURN_S = 0.1


class Program(Protocol):
    """What a node does beside its callbacks."""

    def turn(self, asked: int) -> bool:
        """Called at least every 0.1 s with how many ending signals (signals.ENDING) came; False when it is over."""
        ...

    def end(self) -> int:
        """Called once, whatever happened, while messages can still be sent; returns the exit code."""
        ...


def run_node(
    make_node: Callable[[], Any],
    make_program: Callable[[Any], Program],
    arguments: list[str] | None = None,
    *,
    threads: int = 1,
) -> int:
    """Make the node, then its program, and spin until that is over; the exit code, 2 with one sentence for a UserError.

    arguments: as for rclpy.init, None for the process's own;  threads: of the executor's callbacks.
    """
    received: list[int] = []
    before = signals.catch(lambda which, _: received.append(which))  # first: imports take a second
    try:
        prepare()
        return _run(make_node, make_program, arguments, threads, received) if not received else 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except OSError as error:
        sentence = of_the_disk(error)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        return 2
    finally:
        signals.restore(before)
        clean_shared_memory(own_mappings=False)


def named(name: str) -> Callable[[], Any]:
    """Makes a plain node called `name`."""

    def make() -> Any:
        import rclpy

        return rclpy.create_node(name)

    return make


def _run(
    make_node: Callable[[], Any],
    make_program: Callable[[Any], Program],
    arguments: list[str] | None,
    threads: int,
    received: list[int],
) -> int:
    import rclpy
    from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor

    node = program = executor = None
    code = 0
    try:
        _init(arguments)
        executor = MultiThreadedExecutor(threads) if threads > 1 else SingleThreadedExecutor()
        node = make_node()
        executor.add_node(node)
        program = make_program(node)
        try:
            while program.turn(len(received)):
                executor.spin_once(timeout_sec=TURN_S)
        except ExternalShutdownException:
            pass  # someone else ended this process's ROS: nothing more to spin
    finally:
        if program is not None:
            code = program.end()
        if executor is not None:
            executor.shutdown(timeout_sec=2.0)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


def _init(arguments: list[str] | None) -> None:
    """rclpy.init; UserError for arguments or a parameter file that ROS cannot read."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # of several types, some of them private to rclpy
        text = " ".join(str(error).split())
        raise UserError(f"ROS does not take the arguments: {text}; check --ros-args and the --params-file") from error
