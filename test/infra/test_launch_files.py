"""The launch files: their arguments are described, what they start exists; loaded and run where launch_ros is there."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from difftop_ros.errors import UserError
from difftop_ros.nodes import launching
from difftop_ros.nodes.simulation.bridge.parameters import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("launch/*.launch.py"))
NO_LAUNCH_ROS = "launch_ros is not installed (it has no pip wheel; a ROS 2 machine has it)"
CMAKE = (ROOT / "CMakeLists.txt").read_text()

# Other packages' programs that our launch files start on a machine with ROS.
FOREIGN = {
    ("ros_gz_bridge", "parameter_bridge"),
    ("ros_gz_sim", "create"),
    ("robot_state_publisher", "robot_state_publisher"),
    ("controller_manager", "spawner"),
}
PROGRAMS = re.findall(r"^\s*(scripts/\w+)$", CMAKE, re.MULTILINE)


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """All calls of the function or class `name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def literal(expression: ast.expr) -> str:
    assert isinstance(expression, ast.Constant), ast.dump(expression)
    return str(expression.value)


def nodes(tree: ast.AST) -> list[dict[str, ast.expr]]:
    """Of our own package; the others are in FOREIGN."""
    found = [keywords(call) for name in ("Node", "LifecycleNode") for call in calls(tree, name)]
    theirs = [g for g in found if literal(g["package"]) != "difftop_ros"]
    assert {(literal(g["package"]), literal(g["executable"])) for g in theirs} <= FOREIGN
    return [given for given in found if given not in theirs]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest) -> ast.Module:
    return ast.parse(request.param.read_text(), str(request.param))


def test_the_four_launch_files_are_there() -> None:
    assert {path.name for path in FILES} >= {f"{n}.launch.py" for n in ("policy", "sim", "record", "train")}


def test_arguments_have_descriptions_and_are_used(tree: ast.Module) -> None:
    declared = {literal(call.args[0]): keywords(call) for call in calls(tree, "DeclareLaunchArgument")}
    assert declared
    for name, given in declared.items():
        assert len(literal(given["description"])) > 10, f"argument {name} needs a description"
    used = {literal(call.args[0]) for call in calls(tree, "LaunchConfiguration")}
    if any(calls(tree, "dds_environment")):
        used.add("local_only")
    from_table = {parameter.name for parameter in PARAMETERS} if any(calls(tree, "parameter_arguments")) else set()
    assert used - (from_table - set(declared)) == set(declared)


def test_every_parameter_of_the_bridge_is_an_argument_of_its_launch_file() -> None:
    pytest.importorskip("launch_ros", reason=NO_LAUNCH_ROS)
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(ROOT / "launch/sim.launch.py"))
    names = {argument.name for argument in description.get_launch_arguments()}
    assert names >= {"mjcf" if p.name == "model" else p.name for p in PARAMETERS} | {"namespace", "params_file"}


def test_given_arguments_become_parameters_of_their_type() -> None:
    context = SimpleNamespace(launch_configurations={"seed": "7", "realtime_factor": "2", "task": "", "mjcf": "a.xml"})
    values = launching.given(context, PARAMETERS, {"model": "mjcf"})
    assert values == {"seed": 7, "realtime_factor": 2.0, "model": "a.xml"}
    assert isinstance(values["realtime_factor"], float)
    with pytest.raises(UserError, match="seed:=fast"):
        launching.given(SimpleNamespace(launch_configurations={"seed": "fast"}), PARAMETERS)


def test_executables_are_installed_and_start_a_module(tree: ast.Module) -> None:
    for given in nodes(tree):
        name = literal(given["executable"])
        assert literal(given["package"]) == "difftop_ros"
        assert f"scripts/{name}" in PROGRAMS, f"CMakeLists.txt does not install scripts/{name}"
        script = ROOT / "scripts" / name
        assert script.stat().st_mode & 0o111, f"scripts/{name} is not executable"
        module = re.search(r"^from (difftop_ros\.\S+) import main$", script.read_text(), re.MULTILINE)
        assert module and importlib.util.find_spec(module[1]), f"scripts/{name} starts a module that does not exist"


def test_parameters_are_declared_by_the_node(tree: ast.Module) -> None:
    for given in nodes(tree):
        executable = literal(given["executable"])
        stem = executable.split("_")[0]
        folder = {"sim": "simulation/bridge"}.get(stem, stem)
        sources = "".join(path.read_text() for path in ROOT.glob(f"difftop_ros/nodes/{folder}/*.py"))
        for dictionary in (n for n in ast.walk(given["parameters"]) if isinstance(n, ast.Dict)):
            for key in (literal(k) for k in dictionary.keys if k):
                assert key == "use_sim_time" or f'"{key}"' in sources, f"{executable} declares no parameter {key}"


def test_the_dds_profile_is_set_before_any_node(tree: ast.Module) -> None:
    (description,) = calls(tree, "LaunchDescription")
    (entities,) = description.args
    assert isinstance(entities, ast.List)
    first = next(entity for entity in entities.elts if not isinstance(entity, ast.Starred))  # *arguments come before
    assert ast.unparse(first) == "dds_environment()"


def test_every_installed_program_exists() -> None:
    assert sorted(PROGRAMS) == sorted(f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir())


def test_every_interface_is_built_by_cmake_too() -> None:
    listed = re.findall(r'"((?:msg|srv|action)/\w+\.(?:msg|srv|action))"', CMAKE)
    assert sorted(listed) == sorted(
        str(p.relative_to(ROOT)) for kind in ("msg", "srv", "action") for p in ROOT.glob(f"{kind}/*")
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_ros_loads_it(path: Path, ros_domain: int) -> None:
    pytest.importorskip("launch_ros", reason=NO_LAUNCH_ROS)
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(path))
    assert all(argument.description for argument in description.get_launch_arguments())


def test_the_simulation_launches_and_ends(spawn: Any, tmp_path: Path) -> None:
    pytest.importorskip("launch_ros", reason=NO_LAUNCH_ROS)
    program = tmp_path / "run_launch.py"
    program.write_text(
        "import sys\n"
        "from launch import LaunchDescription, LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "arguments = [('task', 'reach'), ('model', '/no/such/model')]\n"
        "source = PythonLaunchDescriptionSource(sys.argv[1])\n"
        "service = LaunchService(noninteractive=True)\n"
        "service.include_launch_description(\n"
        "    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))\n"
        "sys.exit(service.run())\n"
    )
    launch = spawn([sys.executable, str(program), str(ROOT / "launch/sim.launch.py")])
    launch.wait_for("ready: task 'reach'", 60)
    launch.wait_for("cannot configure", 60)  # the policy refuses its model, which ends the whole launch
    launch.wait(30)
    assert "process has finished cleanly" in launch.output()
