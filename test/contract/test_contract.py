"""The contract: what loads, what is refused, and that every refusal names its line and remedy."""

from pathlib import Path

import pytest

from difftop_ros.contract import ContractError, DepthCloudObs, load_contract, parse_contract

CONFIG = Path(__file__).parents[2] / "config"
DEMO = (CONFIG / "panda_table.yaml").read_text()


def edited(old: str, new: str) -> str:
    assert old in DEMO, f"the demo contract no longer has {old!r}"
    return DEMO.replace(old, new, 1)


def line_of(text: str, needle: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if needle in line)


@pytest.mark.parametrize("path", sorted(CONFIG.glob("panda*.yaml")), ids=lambda p: p.stem)
def test_shipped_contracts_survive_a_round_trip(path: Path) -> None:
    contract = load_contract(path)
    again = parse_contract(contract.to_yaml())
    assert again == contract and again.sha256 == contract.sha256


def test_hash_ignores_the_sim_section_and_sees_a_limit() -> None:
    base = parse_contract(DEMO)
    assert parse_contract(edited("task: lift", "task: push")).sha256 == base.sha256
    assert parse_contract(edited("velocity: 2.175", "velocity: 2.0")).sha256 != base.sha256


REFUSED = [
    ("rate_hz: 20", "rate_hz: 0", "rate_hz: 0", "greater than or equal to 0.01"),
    ("rate_hz: 20", "rate_hz: fast", "rate_hz: fast", "valid number"),
    ("control_rate_hz: 50", "control_rate_hz: 10", None, "below rate_hz"),
    ("    max_age_ms: 100", "    max_age: 100", "max_age: 100", "did you mean 'max_age_ms'"),
    ("    kind: point_cloud", "    kind: lidar", None, "expected one of"),
    ("    points: 256", "    points: 2", "points: 2", "greater than or equal to 8"),
    ("topic: joint_states", "topic: /joint states", "topic: /joint states", "no ROS name"),
    ("topic: joint_states", "topic: /jöint", "topic: /jöint", "no ROS name"),
    ("topic: joint_states", "topic: joint_states/", "topic: joint_states/", "no ROS name"),
    ("min: [0.2,", "min: [0.9,", "crop:", "must be below max"),
    ("  mode: position", "  mode: delta_position", "command:", "needs 'step'"),
    ("name: panda_joint2", "name: panda_joint1", "command:", "more than once"),
    ("quat_xyzw: [0.6107", "quat_xyzw: [0.9", "transform:", "length 1"),
    ("[panda_joint1, panda_joint2,", "[panda_joint1,", None, "measured by no joint_state"),
    ("fields: [position]", "fields: [velocity]", None, "measured by no joint_state"),
    ("name: panda_table\n", "", None, "'name' is missing"),
    ("clock: header ", "clock: header\nclock: header ", None, "stands twice"),
    ("rate_hz: 20", "rate_hz: [20", None, "not valid YAML"),
    ("cameras: {cloud: front}", "cameras: {clod: front}", None, "not observations"),
    ("position: [0.0, 0.08]", "position: [0.0, .nan]", "name: panda_gripper", "finite"),
]


NAMES = [refused[1].strip()[:28] or "no name" for refused in REFUSED]


@pytest.mark.parametrize(("old", "new", "needle", "says"), REFUSED, ids=NAMES)
def test_refusal_names_line_and_remedy(old: str, new: str, needle: str | None, says: str) -> None:
    text = edited(old, new)
    with pytest.raises(ContractError) as refused:
        parse_contract(text, "my.yaml")
    message = str(refused.value)
    assert says in message and message.startswith("my.yaml:")
    if needle:
        assert f"my.yaml:{line_of(text, needle)}:" in message


def test_missing_file_and_empty_file_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="does not exist"):
        load_contract(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ContractError, match="expected a mapping"):
        load_contract(tmp_path / "empty.yaml")


def test_a_policy_may_change_topics_but_not_meanings() -> None:
    trained = parse_contract(DEMO)
    assert parse_contract(edited("topic: camera/front/points", "topic: /d435/points")).incompatibilities(trained) == []
    swapped = edited("name: panda_joint1, unit", "name: panda_jointX, unit").replace("panda_jointX", "panda_joint2", 1)
    second = "{name: panda_joint2, unit: rad, position: [-1.7"
    swapped = swapped.replace(second, second.replace("panda_joint2", "panda_joint1"))
    assert "joint_names" in parse_contract(swapped).incompatibilities(trained)[0]
    assert "points = 128" in parse_contract(edited("points: 256", "points: 128")).incompatibilities(trained)[0]


def test_depth_may_stand_in_for_a_cloud_of_the_same_shape() -> None:
    plain = edited("    color: true\n", "")
    depth = plain.replace("kind: point_cloud", "kind: depth_cloud\n    camera_info: /camera/front/depth/camera_info")
    contract = parse_contract(depth)
    assert isinstance(contract.observations["cloud"], DepthCloudObs)
    assert contract.incompatibilities(parse_contract(plain)) == []


def test_relative_topics_live_in_a_namespace_and_absolute_ones_do_not() -> None:
    text = edited("topic: camera/front/points", "topic: /camera/points")
    left = parse_contract(text).in_namespace("/left")
    assert left.command.topic == "/left/joint_command" and left.episode.success_topic == "/left/sim/success"
    assert left.observations["joints"].topic == "/left/joint_states"
    assert left.observations["cloud"].topic == "/camera/points"
    assert left.in_namespace("/right") == left
    assert parse_contract(text).in_namespace("/").command.topic == "/joint_command"


def test_a_bag_of_a_robot_in_a_namespace_is_found_there() -> None:
    contract = parse_contract(DEMO)
    recorded = contract.as_recorded(["/left/joint_command", "/left/joint_states"])
    assert recorded.observations["joints"].topic == "/left/joint_states"
    assert contract.as_recorded(["/joint_command"]).command.topic == "/joint_command"
    both = contract.as_recorded(["/left/joint_command", "/right/joint_command"])
    assert both.command.topic == "/joint_command"
