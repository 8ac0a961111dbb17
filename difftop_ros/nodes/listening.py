"""Listens to the running graph for a while and says what it offers, for `difftop contract check --live`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.data.bags.check import MOST_DRIVERS, SAMPLES, Offer, sampled, wanted_topics
from difftop_ros.data.bags.timing import Timing
from difftop_ros.messages.types import header_stamp, ros_types
from difftop_ros.nodes.topics import TopicFollower

DISCOVERY_S = 3.0  # at most, until every topic has a publisher, and until the first time on /clock
CLOCK_S = 0.5  # by which /clock may be found later than the topics


def listen(contract: Contract, seconds: float) -> Offer:
    """What the graph offers of the contract's topics within `seconds`; in simulated time where /clock is published."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("difftop_contract_check", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    wanted = wanted_topics(contract)
    raws: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in wanted}
    counts: dict[tuple[str, frozenset[str]], int] = {}
    timings = {topic: Timing() for topic in wanted}
    stamped = {t: hasattr(ros_types(k)(), "header") for t, k in wanted.items()}

    def received(topic: str, raw: bytes, now_ns: int) -> None:
        timings[topic].received.append(now_ns)
        if stamped[topic]:
            timings[topic].stamps.append(header_stamp(raw))
        driver = (topic, sampled(wanted[topic], raw))
        counts[driver] = counts.get(driver, 0) + 1
        if counts[driver] <= SAMPLES and len(counts) <= MOST_DRIVERS:
            raws[topic].append((now_ns, raw))

    try:
        topics = TopicFollower(node, wanted, [], received)
        _spin(executor, topics, DISCOVERY_S, lambda: set(topics.types) >= set(wanted) - {contract.command.topic})
        _spin(executor, topics, CLOCK_S, lambda: node.count_publishers("/clock") > 0)
        if node.count_publishers("/clock"):
            node.set_parameters([Parameter("use_sim_time", value=True)])
            _spin(executor, topics, DISCOVERY_S, lambda: node.get_clock().now().nanoseconds < 10**17)
        for topic in wanted:  # what came before the clock was known does not count
            timings[topic].received.clear()
            timings[topic].stamps.clear()
        _spin(executor, topics, seconds, lambda: False)
        kinds = {name: types[0] for name, types in node.get_topic_names_and_types() if types}
        kinds.update(topics.types)
    finally:
        executor.shutdown(timeout_sec=2.0)
        node.destroy_node()
        context.try_shutdown()
    from rclpy.serialization import deserialize_message

    samples = {t: [deserialize_message(raw, ros_types(wanted[t])) for _, raw in found] for t, found in raws.items()}
    return Offer(kinds, timings, samples)


def _spin(executor: Any, topics: TopicFollower, seconds: float, enough: Callable[[], bool]) -> None:
    deadline, scanned = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < deadline and not enough():
        if now - scanned > 0.1:
            topics.scan()
            scanned = now
        executor.spin_once(timeout_sec=0.05)
