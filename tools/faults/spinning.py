"""A ROS node whose callbacks run in a thread of its own: what robot doubles of tests and faults are made on.

Import after environment.prepare(): rclpy is imported when one is made.
"""

from __future__ import annotations

import threading
from typing import Any


class SpinningNode:
    """`node` in the rclpy context given; `spin` once publishers and subscriptions are made, and `close` at the end."""

    def __init__(self, context: Any, name: str) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.node = rclpy.create_node(name, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def spin(self) -> None:
        """Begin to serve callbacks."""
        self._executor.add_node(self.node)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        """End thread and node."""
        self._ended.set()
        self._thread.join(5.0)
        self._executor.shutdown()
        self.node.destroy_node()
