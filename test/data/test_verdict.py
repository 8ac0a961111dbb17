"""`difftop contract check --bag` and ingest say the same of a bag, whatever is wrong with it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.cli import main
from difftop_ros.commands import contract as contract_command
from difftop_ros.contract import Contract
from difftop_ros.data import DatasetError, ingest

REFUSED = ("no cloud", "degrees", "clock", "frame", "zero stamps")
USED = ("good", "pause", "frame changes", "one bad joint state")


def spoil(case: str, entries: list[Any]) -> list[Any]:
    """The entries of an episode of three seconds, with one thing wrong."""
    spoilt = []
    for number, (topic, kind, received, message) in enumerate(entries):
        late = received > 101.5e9
        if case == "no cloud" and topic == "/points":
            continue
        if case == "degrees" and topic == "/joint_states":
            message.position = np.degrees(message.position)
        if case == "clock" and topic == "/joint_states":
            message.header.stamp.sec -= 2
        if case == "pause" and late and topic != "/success":
            message.header.stamp.sec += 30
            received += 30 * 10**9
        if topic == "/points" and (case == "frame" or (case == "frame changes" and late)):
            message.header.frame_id = "odom"
        if case == "one bad joint state" and number == 0:
            message.position[0] = np.nan
        if case == "zero stamps" and topic == "/joint_states":
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        spoilt.append((topic, kind, received, message))
    return sorted(spoilt, key=lambda entry: entry[2])


@pytest.mark.parametrize("case", REFUSED + USED)
def test_check_and_ingest_agree(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any], case: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bag = kit.write_bag(tmp_path / "bag", spoil(case, episode(steps=30)))
    file = tmp_path / "contract.yaml"
    file.write_text(contract.to_yaml())
    parser = argparse.ArgumentParser()
    contract_command.add_arguments(parser)
    code = contract_command.run(parser.parse_args(["check", str(file), "--bag", str(bag)]))
    said = capsys.readouterr().out
    try:
        result = ingest([bag], contract, tmp_path / "data").bags[0]
    except DatasetError as error:
        assert code == 1 and "error" in said
        assert case in REFUSED, error
        return
    assert code == 0 and case in USED
    assert all(note in said for note in result.notes)


def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    kit.write_bag(tmp_path / "bags" / "small", episode(steps=12))
    file = tmp_path / "contract.yaml"
    file.write_text(contract.to_yaml())
    words = ["bag", "ingest", str(tmp_path / "bags"), "--contract", str(file), "--out", str(tmp_path / "data")]
    code = (
        "import resource, sys; from difftop_ros.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    full = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert full.returncode == 2 and "the same command goes on" in full.stderr and "Traceback" not in full.stderr
    assert not list((tmp_path / "data").rglob("*.partial"))
    assert main(words) == 0


def test_another_drivers_joint_states_on_the_topic_are_no_finding(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    """A gripper's driver, ten times as fast, before and between the arm's messages."""
    from difftop_ros.data import open_bag
    from difftop_ros.data.bags.check import check, offer_of_bag

    entries = episode(steps=20)
    for step in range(2000):
        now = 99.9 + step / 1000
        finger = kit.joint_state(kit.types, ["finger"], now, np.zeros(1))
        entries.append(("/joint_states", "sensor_msgs/msg/JointState", round(now * 1e9), finger))
    bag = kit.write_bag(tmp_path / "bag", sorted(entries, key=lambda entry: entry[2]))
    with open_bag(bag) as opened:
        offer = offer_of_bag(opened, contract)
    assert {frozenset(message.name) for _, message in offer.samples["/joint_states"]} == {
        frozenset(["a", "b"]), frozenset(["finger"])
    }  # fmt: skip
    for live in (False, True):
        found = [finding for finding in check(contract, offer, live=live) if finding.subject == "joints"]
        assert [finding.level for finding in found if "lacks" in finding.text] == []
