"""One table of parameters per node: its file in config/, its declaration, its sentences."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from difftop_ros.errors import UserError
from difftop_ros.nodes.parameters import FILES, Parameter, assignment, declare, rendered

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("file", FILES)
def test_a_parameter_file_is_what_its_table_says(file: str) -> None:
    text = (ROOT / file).read_text()
    assert text == rendered()[file], "run python -m difftop_ros.nodes.parameters"
    table = importlib.import_module(FILES[file]).PARAMETERS
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert values == {p.name: p.default for p in table}
    for parameter in table:
        assert type(values[parameter.name]) is type(parameter.default), parameter.name
        if parameter.bounds:
            assert parameter.bounds[0] <= parameter.default <= parameter.bounds[1], parameter.name
        assert not parameter.choices or parameter.default in parameter.choices, parameter.name


TABLE = (
    Parameter("speed", 1.0, "how fast", (0.0, 2.0), "m/s", live=True),
    Parameter("count", 3, "how many", (1, 10)),
    Parameter("colour", "red", "which", choices=("red", "blue")),
    Parameter("names", ["a"], "who"),
)


def make(context: Any, values: dict[str, Any]) -> Any:
    import rclpy
    from rclpy.parameter import Parameter as RosParameter

    overrides = [RosParameter(name, value=value) for name, value in values.items()]
    return rclpy.create_node("declaring", context=context, parameter_overrides=overrides)


def test_a_table_is_declared_with_its_bounds_and_read_only_flags(ros_context: Any) -> None:
    from rclpy.parameter import Parameter as RosParameter

    node = make(ros_context, {"count": 4})
    try:
        assert declare(node, TABLE) == {"speed": 1.0, "count": 4, "colour": "red", "names": ["a"]}
        described = node.describe_parameter("speed")
        assert (described.description, described.read_only) == ("how fast [m/s]", False)
        assert node.describe_parameter("count").integer_range[0].to_value == 10
        assert not node.set_parameters([RosParameter("count", value=5)])[0].successful
        assert node.set_parameters([RosParameter("speed", value=2.0)])[0].successful
        assert not node.set_parameters([RosParameter("speed", value=2.5)])[0].successful
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("speed", 1, "another type than its default 1.0 (how fast [float, 0 to 2, unit m/s])"),
        ("count", 11, "out of its bounds (1, 10)"),
        ("colour", "green", "is 'green'; choose one of ['red', 'blue']"),
    ],
)
def test_a_value_that_cannot_be_is_a_sentence(name: str, value: Any, words: str, ros_context: Any) -> None:
    node = make(ros_context, {name: value})
    try:
        with pytest.raises(UserError) as error:
            declare(node, TABLE)
        assert f"parameter '{name}'" in str(error.value)
        assert words in str(error.value)
    finally:
        node.destroy_node()


def test_assignments_of_a_command_line() -> None:
    assert assignment(TABLE, "speed:=2") == "speed:=2.0"
    assert assignment(TABLE, "count:=2") == "count:=2"
    with pytest.raises(UserError, match="unknown parameter 'sped'; did you mean 'speed'"):
        assignment(TABLE, "sped:=2.0")
    with pytest.raises(UserError, match="NAME:=VALUE"):
        assignment(TABLE, "speed=2.0")
