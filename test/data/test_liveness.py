"""Which streams have stopped or slowed down, by times alone: steady, slow, on shared topics, in time that stands."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import parse_contract
from difftop_ros.data.bags.liveness import StreamWatch, stopped_before
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types

CONTRACT = parse_contract("""
name: two_drivers
rate_hz: 10
control_rate_hz: 50
command: {topic: /command, type: sensor_msgs/msg/JointState, joints: [{name: a, position: [-3, 3], velocity: 2}]}
observations:
  arm: {kind: joint_state, topic: /joint_states, joints: [a]}
  hand: {kind: joint_state, topic: /joint_states, joints: [finger]}
  cloud: {kind: point_cloud, topic: /points, frame: base, points: 16, max_age_ms: 1500}
  sent_once: {kind: joint_state, topic: /settings, joints: [c], resample: hold}
""")
STORE = get_typestore(Stores.ROS2_JAZZY)


def joints(*names: str) -> bytes:
    message = joint_state(rosbags_types, list(names), 1.0, np.zeros(len(names)))
    return bytes(STORE.serialize_cdr(message, message.__msgtype__))


ARM, HAND = joints("a", "b"), joints("finger")


def feed(
    watch: StreamWatch,
    begin: float,
    end: float,
    leave_out: Iterable[str] = (),
    arm_hz: float = 100.0,
    wall: float = 1.0,
) -> None:
    """Messages from `begin` to `end` [s]; `wall` [s] of wall time go by for each second."""
    events = [(t, "/joint_states", ARM) for t in np.arange(begin, end, 1 / arm_hz) if "arm" not in leave_out]
    events += [(t, "/joint_states", HAND) for t in np.arange(begin, end, 0.01) if "hand" not in leave_out]
    events += [(t, "/points", b"cloud") for t in np.arange(begin, end, 0.5) if "cloud" not in leave_out]
    for time, topic, raw in sorted(events):
        watch.note(topic, raw, time, time * wall)


def findings(watch: StreamWatch, now: float, wall: float = 1.0) -> str:
    return "; ".join(trouble.text for trouble in watch.troubles(now, now * wall))


def test_steady_streams_have_nothing_wrong_and_their_rates_are_told() -> None:
    watch = StreamWatch(CONTRACT)
    assert findings(watch, 5.0) == "", "before anything came"
    feed(watch, 10.0, 20.0)
    watch.begin(20.0, 20.0)
    feed(watch, 20.0, 24.0)
    assert watch.rates(24.0)["'/joint_states'"] == pytest.approx(100, abs=3)
    assert findings(watch, 24.4) == "", "a stream of 2 Hz is not silent after .4 s"
    account = watch.account(24.01, 24.01)
    assert account["stopped"] == {}
    assert account["streams"]["/joint_states"]["count"] == pytest.approx(400, abs=2)
    assert account["streams"]["/points"]["rate_hz"] == pytest.approx(2, abs=0.1)
    assert "/settings" not in account["streams"]


def test_each_of_two_drivers_on_one_topic_is_followed() -> None:
    watch = StreamWatch(CONTRACT)
    feed(watch, 0.0, 5.0)
    watch.begin(5.0, 5.0)
    feed(watch, 5.0, 8.0, leave_out=["arm"])
    assert findings(watch, 8.0).startswith("'/joint_states' sent nothing for 3.0 s")
    feed(watch, 8.0, 10.0, leave_out=["hand"])
    assert "'/joint_states' (hand) sent nothing for 2.0 s" in findings(watch, 10.0)
    account = watch.account(10.0, 10.0)
    assert list(account["stopped"]) == ["/joint_states (hand)"]
    assert account["streams"]["/joint_states"]["longest_gap_s"] == pytest.approx(3.0, abs=0.05)


def test_a_stream_that_never_came_in_an_episode_has_stopped() -> None:
    watch = StreamWatch(CONTRACT)
    feed(watch, 0.0, 3.0)
    watch.begin(100.0, 100.0)
    feed(watch, 100.0, 104.0, leave_out=["cloud"])
    account = watch.account(104.0, 104.0)
    assert set(account["stopped"]) == {"/points"}
    assert account["streams"]["/points"] == {"count": 0, "rate_hz": 0.0, "longest_gap_s": 4.0}


@pytest.mark.parametrize(("rate", "told"), [(80.0, False), (40.0, True), (10.0, True)])
def test_a_fraction_of_the_usual_rate_is_told(rate: float, told: bool) -> None:
    watch = StreamWatch(CONTRACT)
    feed(watch, 0.0, 6.0)
    watch.begin(6.0, 6.0)
    feed(watch, 6.0, 8.0)
    feed(watch, 8.0, 12.0, arm_hz=rate)
    said = findings(watch, 12.0)
    assert ("has slowed down" in said) == told
    if told:
        found = re.search(r"'/joint_states' has slowed down to (\d+) Hz; it had 100 Hz", said)
        assert rate - 1 <= int(found[1]) <= rate
    feed(watch, 12.0, 14.0)
    assert findings(watch, 14.0) == ""
    assert ("slowest_hz" in watch.account(14.0, 14.0)["streams"]["/joint_states"]) == told


def test_time_that_stands_still_does_not_hide_dead_streams() -> None:
    watch = StreamWatch(CONTRACT)
    feed(watch, 0.0, 5.0)
    watch.begin(5.0, 5.0)
    feed(watch, 5.0, 8.0)
    assert watch.troubles(8.0, 9.0) == []
    assert {trouble.kind for trouble in watch.troubles(8.0, 14.0)} == {"stopped"}
    assert len(watch.troubles(8.0, 14.0)) == 3, "a simulation that was killed: 6 s of wall time without a message"


def test_a_slow_simulation_and_a_clock_that_begins_anew_are_not_dead_streams() -> None:
    watch = StreamWatch(CONTRACT)
    feed(watch, 100.0, 105.0, wall=5.0)
    watch.begin(0.0, 525.0)
    assert watch.troubles(0.2, 525.2) == []
    feed(watch, 0.0, 3.0, wall=5.0)
    assert watch.troubles(3.0, 15.0) == []


def test_whatever_stands_in_a_mark_is_read() -> None:
    assert stopped_before({"/points": 3.14}) == "'/points' sent nothing in the last 3.1 s"
    for other in (None, [], {}, "x", 3, {"/points": "long"}, {"/points": None}):
        assert stopped_before(other) == ""
