"""Listens to the running graph for a while and says what it offers, for `difftop contract check` and `init --live`."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.data.bags.check import MOST_DRIVERS, SAMPLES, Offer, sampled, wanted_topics
from difftop_ros.data.bags.frames import FrameComparison
from difftop_ros.data.bags.timing import Timing
from difftop_ros.data.proposal.offer import COMMANDS, DESCRIPTION, SHOWN, TEXT, Shown
from difftop_ros.messages.commands import ARRAY, JOINT_STATE
from difftop_ros.messages.places.whereabouts import Whereabouts, transform_topics
from difftop_ros.messages.types import header_stamp, ros_types
from difftop_ros.nodes.topics import TopicFollower

DISCOVERY_S = 3.0  # at most, until every topic has a publisher, and until the first time on /clock
MOST_FOLLOWED = 20_000  # joint readings, for moving cameras
CLOCK_S = 0.5  # by which /clock may be found later than the topics


@contextmanager
def _listener(name: str) -> Iterator[tuple[Any, Any]]:
    """A node of a context of its own, and its executor."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node(name, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown(timeout_sec=2.0)
        node.destroy_node()
        context.try_shutdown()


def listen(contract: Contract, seconds: float) -> Offer:
    """What the graph offers of the contract's topics within `seconds`; in simulated time where /clock is published."""
    wanted = wanted_topics(contract)
    raws: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in wanted}
    counts: dict[tuple[str, frozenset[str]], int] = {}
    timings = {topic: Timing() for topic in wanted}
    stamped = {t: hasattr(ros_types(k)(), "header") for t, k in wanted.items()}
    followed: deque[tuple[str, int, bytes]] = deque(maxlen=MOST_FOLLOWED)
    frames, transforms = FrameComparison(contract), transform_topics(contract)
    follows = {*Whereabouts(contract).topics, *frames.topics}

    def received(topic: str, raw: bytes, now_ns: int) -> None:
        if topic in transforms:
            followed.append((topic, now_ns, raw))
            return
        _time(timings[topic], raw, now_ns, stamped[topic])
        if topic in follows:
            followed.append((topic, now_ns, raw))
        driver = (topic, sampled(wanted[topic], raw))
        counts[driver] = counts.get(driver, 0) + 1
        if counts[driver] <= SAMPLES and len(counts) <= MOST_DRIVERS:
            raws[topic].append((now_ns, raw))

    with _listener("difftop_contract_check") as (node, executor):
        topics = TopicFollower(node, wanted, list(follows & transforms.keys()), received)
        _spin(executor, topics, DISCOVERY_S, lambda: set(topics.types) >= set(wanted) - {contract.command.topic})
        _learn_time(node, executor, topics)
        for topic in wanted:  # what came before the clock was known does not count
            timings[topic].received.clear()
            timings[topic].stamps.clear()
        _spin(executor, topics, seconds, lambda: False)
        kinds = {name: types[0] for name, types in node.get_topic_names_and_types() if types}
        kinds.update(topics.types)
    from rclpy.serialization import deserialize_message

    def message(topic: str, raw: bytes) -> Any:
        return deserialize_message(raw, ros_types({**wanted, **transforms}[topic]))

    samples = {topic: [(at, message(topic, raw)) for at, raw in found] for topic, found in raws.items()}
    told = [(topic, at, message(topic, raw)) for topic, at, raw in followed]
    for each in told:
        frames.take(*each)
    return Offer(kinds, timings, samples, told, frames)


def overhear(seconds: float) -> Shown:
    """What the graph shows within `seconds` of a robot that no contract describes yet; see data/proposal."""
    from rclpy.serialization import deserialize_message

    with _listener("difftop_contract_init") as (node, executor):
        _spin(executor, None, DISCOVERY_S, lambda: False)
        kinds = {name: types[0] for name, types in node.get_topic_names_and_types() if types}
        shown = Shown(kinds, defaultdict(Timing), taken=frozenset(t for t in kinds if node.count_subscribers(t)))
        wanted = {
            t: k
            for t, k in kinds.items()
            if node.count_publishers(t) and (k in SHOWN or (k == TEXT and t.endswith(DESCRIPTION)))
        }
        for topic, kind in kinds.items():
            if kind in COMMANDS and topic in shown.taken and "/" in topic.strip("/"):
                told = _parameters(node, executor, topic.rpartition("/")[0], ("joints", "command_interfaces"))
                shown.controllers |= {topic: {"joints": told[0], "interfaces": told[1]}} if told else {}

        def received(topic: str, raw: bytes, now_ns: int) -> None:
            _time(shown.timings[topic], raw, now_ns, kinds[topic] not in (ARRAY, TEXT))
            if topic not in shown.samples or kinds[topic] == JOINT_STATE:
                shown.take(topic, deserialize_message(raw, ros_types(kinds[topic])))

        topics = TopicFollower(node, wanted, [], received)
        _learn_time(node, executor, topics)
        shown.timings.clear()
        _spin(executor, topics, seconds, lambda: False)
    return shown


def _time(timing: Timing, raw: bytes, now_ns: int, stamped: bool) -> None:
    timing.received.append(now_ns)
    if stamped:
        timing.stamps.append(header_stamp(raw))


def _learn_time(node: Any, executor: Any, topics: TopicFollower) -> None:
    """Simulated time, where /clock is published."""
    from rclpy.parameter import Parameter

    _spin(executor, topics, CLOCK_S, lambda: node.count_publishers("/clock") > 0)
    if node.count_publishers("/clock"):
        node.set_parameters([Parameter("use_sim_time", value=True)])
        _spin(executor, topics, DISCOVERY_S, lambda: node.get_clock().now().nanoseconds < 10**17)


def _parameters(node: Any, executor: Any, of: str, names: tuple[str, ...]) -> list[list[str]] | None:
    """Parameters of another node that are lists of words; None when it does not answer."""
    from rcl_interfaces.srv import GetParameters

    client = node.create_client(GetParameters, f"{of}/get_parameters")
    try:
        if not client.wait_for_service(timeout_sec=0.5):
            return None
        future = client.call_async(GetParameters.Request(names=list(names)))
        executor.spin_until_future_complete(future, timeout_sec=2.0)
        answer = future.result() if future.done() else None
        return None if answer is None else [list(value.string_array_value) for value in answer.values]
    finally:
        node.destroy_client(client)


def _spin(executor: Any, topics: TopicFollower | None, seconds: float, enough: Callable[[], bool]) -> None:
    deadline, scanned = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < deadline and not enough():
        if topics is not None and now - scanned > 0.1:
            topics.scan()
            scanned = now
        executor.spin_once(timeout_sec=0.05)
