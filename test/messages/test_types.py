"""Stamps, and message classes made empty."""

from __future__ import annotations

from difftop_ros.messages.types import rosbags_types, stamp


def test_a_stamp_never_has_a_whole_second_of_nanoseconds() -> None:
    time = stamp(rosbags_types, 1.9999999999)
    assert (time.sec, time.nanosec) == (2, 0)
