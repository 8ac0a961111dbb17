"""The pipeline by kind of observation: what is decoded, what is refused, and kinds from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from difftop_ros.contract import Contract, ContractError, Observation, observations, parse_contract
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError, ObservationPipeline, pipeline, register
from difftop_ros.messages.types import rosbags_types
from difftop_ros.nodes.simulation.bridge.streams import plan_streams
from difftop_ros.runtime.streams import StreamBuffers
from difftop_ros.sim.interface import require_made

RANGE = "sensor_msgs/msg/Range"


class RangeObs(Observation):
    """A distance sensor, frame float32 (1,) [m]."""

    kind: Literal["range"]
    type: Literal["sensor_msgs/msg/Range"] = "sensor_msgs/msg/Range"

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,)


def decode_range(obs: RangeObs, messages: Mapping[str, Any]) -> np.ndarray:
    return np.array([messages[obs.topic].range], np.float32)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    tables: list[dict[str, Any]] = [observations.KINDS, pipeline.DECODERS]
    kept = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, kept, strict=True):
        table.clear()
        table.update(before)


def with_range(contract: Contract) -> str:
    """YAML of the contract with one more observation, of a kind of our own."""
    data = contract.to_dict()
    data["observations"]["bumper"] = {"kind": "range", "topic": "/bumper"}
    return yaml.safe_dump(data)


def test_a_message_of_the_wrong_kind_is_named(contract: Contract) -> None:
    with pytest.raises(ObservationError, match="expected sensor_msgs/msg/JointState"):
        ObservationPipeline(contract).decode("joints", {"/joint_states": rosbags_types("std_msgs/msg/Bool")()})


def test_a_kind_from_elsewhere_is_used_like_ours(contract: Contract) -> None:
    text = with_range(contract)
    with pytest.raises(ContractError, match=r"'range'; expected one of 'joint_state', 'image', .*'depth_cloud'$"):
        parse_contract(text)
    register("range", RangeObs, decode_range)
    found = parse_contract(text)
    assert isinstance(found.observations["bumper"], RangeObs)
    assert parse_contract(found.to_yaml()) == found  # its own fields are written, too
    line = ObservationPipeline(found)
    assert line.spec["bumper"] == ((1,), np.dtype(np.float32)) and line.topics["/bumper"] == RANGE
    message = rosbags_types(RANGE)()
    message.range = 0.25
    np.testing.assert_array_equal(line.decode("bumper", {"/bumper": message}), np.array([0.25], np.float32))
    with pytest.raises(ContractError, match=r"'depth_cloud', 'range'$"):
        parse_contract(text.replace("kind: range", "kind: rnage"))
    with pytest.raises(ContractError, match=r"unknown key 'observations.bumper.topics'; did you mean 'topic'"):
        parse_contract(text.replace("topic: /bumper", "topics: /bumper"))


def test_a_kind_is_told_when_it_is_taken_or_lacks_a_decoder(contract: Contract) -> None:
    with pytest.raises(UserError, match=r"observation kind 'image' is .*ImageObs already"):
        register("image", RangeObs, decode_range)
    with pytest.raises(UserError, match=r"RangeObs is to be of kind 'ranges' .*Literal\['ranges'\]"):
        register("ranges", RangeObs, decode_range)
    observations.register_kind("range", RangeObs)
    with pytest.raises(ObservationError, match=r"'bumper' is of kind 'range', which has no decoder"):
        ObservationPipeline(parse_contract(with_range(contract)))


def test_a_decoder_that_gives_another_shape_is_named(contract: Contract) -> None:
    register("range", RangeObs, lambda obs, messages: np.zeros(2, np.float32))
    line = ObservationPipeline(parse_contract(with_range(contract)))
    with pytest.raises(ObservationError, match=r"'bumper'.*float32 \(2,\).*float32 \(1,\)"):
        line.decode("bumper", {"/bumper": rosbags_types(RANGE)()})


def test_installed_packages_offer_kinds_by_entry_point(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package as pip leaves it: a module, and its entry point beside it."""
    (tmp_path / "range_sensor.py").write_text(
        "import test_pipeline_kinds as kinds\nkinds.register('range', kinds.RangeObs, kinds.decode_range)\n"
    )
    info = tmp_path / "range_sensor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: range_sensor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[difftop_ros.observations]\nrange = range_sensor\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "test_pipeline_kinds", sys.modules[__name__])
    monkeypatch.setattr(observations, "_asked", set())
    assert isinstance(parse_contract(with_range(contract)).observations["bumper"], RangeObs)
    monkeypatch.delitem(sys.modules, "range_sensor")


def test_an_entry_point_that_cannot_be_imported_names_its_package(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("lidar", "no_such_package.lidar", observations.GROUP)
    monkeypatch.setattr(observations, "entry_points", lambda group: [broken])
    monkeypatch.setattr(observations, "_asked", set())
    for _ in range(2):  # told each time, not only the first
        with pytest.raises(UserError, match=r"'lidar' \(no_such_package.lidar\).*cannot be imported.*uninstall"):
            parse_contract(with_range(contract))


@pytest.mark.parametrize("kind", ["[range]", "{range: 1}", "3", "null"])
def test_a_kind_that_is_no_name_is_refused_in_a_sentence(contract: Contract, kind: str) -> None:
    with pytest.raises(ContractError, match=r"'observations.bumper.kind' is .*; expected one of 'joint_state'"):
        parse_contract(with_range(contract).replace("kind: range", f"kind: {kind}"))


class SquareObs(RangeObs):
    """A vector that has two axes."""

    kind: Literal["square"]  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, 2)


def test_a_frame_must_suit_its_modality(contract: Contract) -> None:
    register("square", SquareObs, decode_range)
    with pytest.raises(ContractError, match=r"kind 'square' has frames \(2, 2\); a vector has \(n\)"):
        parse_contract(with_range(contract).replace("kind: range", "kind: square"))


class TaredObs(RangeObs):
    """A kind whose messages have no header."""

    header = False
    kind: Literal["tared"]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("clock", "expected"), [("header", {"/bumper"}), ("receive", {"/bumper", "/joint_states", "/command"})]
)
def test_messages_without_a_header_count_from_when_they_come(
    contract: Contract, clock: str, expected: set[str]
) -> None:
    register("tared", TaredObs, decode_range)
    text = with_range(contract.model_copy(update={"clock": clock})).replace("kind: range", "kind: tared")
    found = parse_contract(text)
    assert found.unstamped == expected
    buffers = StreamBuffers(ObservationPipeline(found).topics, found.unstamped, 1.0)
    buffers.push("/bumper", b"\x00\x01\x00\x00\x00\x00\x80\x3e", 7_000_000_000)
    newest = buffers.newest("/bumper")
    assert newest is not None and newest.stamp_ns == 7_000_000_000


def test_what_the_simulation_cannot_make_is_one_sentence(contract: Contract) -> None:
    register("range", RangeObs, decode_range)
    found = parse_contract(with_range(contract))
    sentence = r"'bumper' is of kind 'range', which the simulation does not make; .*leave it out"
    with pytest.raises(UserError, match=sentence):
        require_made("bumper", found.observations["bumper"])
    with pytest.raises(UserError, match=sentence):
        plan_streams(found, ("front",))
