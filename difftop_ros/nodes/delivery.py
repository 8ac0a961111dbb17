"""Publishing a message that must not be lost when its publisher ends just after: a farewell."""

from __future__ import annotations

from typing import Any

PATIENCE_S = 0.5
TRIES = 5


def deliver(publisher: Any, message: Any, patience_s: float = PATIENCE_S) -> bool:
    """Publish on a reliable publisher until every matched reliable subscriber has it; False if none of the tries did.

    Publishing only hands the message to DDS; a publisher that is destroyed, or whose process ends, before subscribers
    have acknowledged takes it along. So this waits for that, sends again, and gives up after `patience_s` [s].
    """
    from rclpy.duration import Duration

    for _ in range(TRIES):
        publisher.publish(message)
        if publisher.wait_for_all_acked(Duration(seconds=patience_s / TRIES)):
            return True
    return False
