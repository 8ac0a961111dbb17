"""Calls a recorder's services over real DDS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tools.patience import patience


@pytest.fixture
def call(ros_context: object) -> Iterator[Any]:
    """Calls a recorder service: call('start'), call('stop', True) -> (success, message)."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from std_srvs.srv import SetBool, Trigger

    kinds = {"start": Trigger, "stop": SetBool}
    node = rclpy.create_node("caller", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)

    # made before the recorder is: a server that has not found its client yet drops the answer
    clients = {name: node.create_client(k, f"/difftop_recorder/{name}") for name, k in kinds.items()}

    def one(name: str, data: bool | None = None) -> Any:
        kind, client = kinds[name], clients[name]
        assert client.wait_for_service(patience(10.0))
        future = client.call_async(kind.Request() if data is None else kind.Request(data=data))
        executor.spin_until_future_complete(future, patience(10.0))
        assert future.done(), f"~/{name} did not answer"
        return future.result().success, future.result().message

    def start(most: float) -> Any:
        # The graph may still be filling up.
        deadline = time.monotonic() + patience(most)
        while True:
            answer = one("start")
            if answer[0] or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    yield lambda name, data=None, most=10.0: start(most) if name == "start" else one(name, data)
    executor.shutdown()
    node.destroy_node()
