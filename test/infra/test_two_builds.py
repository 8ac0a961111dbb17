"""A node built by colcon and one set up by pip: equal type hashes, and a message from one process to the other."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = Path(os.environ.get("DIFFTOP_COLCON_INSTALL", ROOT / "build-colcon/install"))
PIP_SHARE = Path(sys.prefix) / "share/difftop_ros"
PLAN = "difftop_ros/msg/Plan"


@pytest.fixture(scope="module")
def compare() -> Any:
    """tools/compare_type_hashes.py as a module."""
    spec = importlib.util.spec_from_file_location("compare_type_hashes", ROOT / "tools/compare_type_hashes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def describe(folder: Path, hashes: dict[str, str]) -> Path:
    (folder / "msg").mkdir(parents=True)
    entries = [{"type_name": name, "hash_string": value} for name, value in hashes.items()]
    (folder / "msg/Plan.json").write_text(json.dumps({"type_hashes": entries}))
    return folder


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        ({PLAN: "RIHS01_1"}, {PLAN: "RIHS01_1", "std_msgs/msg/Header": "x"}, 0),
        ({PLAN: "RIHS01_1"}, {PLAN: "RIHS01_2"}, 1),
        ({PLAN: "RIHS01_1", "difftop_ros/msg/Other": "RIHS01_1"}, {PLAN: "RIHS01_1"}, 1),
        ({}, {PLAN: "RIHS01_1"}, 2),
    ],
    ids=["equal", "differs", "missing", "nothing built"],
)
def test_comparison_fails_when_it_should(
    compare: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one: Any,
    other: Any,
    code: int,
) -> None:
    shares = [str(describe(tmp_path / name, hashes)) for name, hashes in (("one", one), ("other", other))]
    monkeypatch.setattr(sys, "argv", ["compare_type_hashes.py", *shares])
    assert compare.main() == code
    assert bool(capsys.readouterr().err) == (code != 0)


LISTENER = """
from difftop_ros.nodes.environment import prepare
prepare(local_only=True)
import difftop_ros.msg, rclpy
rclpy.init()
node = rclpy.create_node("listener")
got = []
node.create_subscription(difftop_ros.msg.Plan, "plan", got.append, 10)
print("READY", difftop_ros.msg.__file__, flush=True)
while not got:
    rclpy.spin_once(node, timeout_sec=0.1)
print("GOT", got[0].sequence, list(got[0].targets), flush=True)
"""
TALKER = """
import time
from difftop_ros.nodes.environment import prepare
prepare(local_only=True)
import difftop_ros.msg, rclpy
rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(difftop_ros.msg.Plan, "plan", 10)
print("READY", difftop_ros.msg.__file__, flush=True)
while True:
    publisher.publish(difftop_ros.msg.Plan(sequence=5, targets=[1.0, 2.5]))
    time.sleep(0.1)
"""


def test_colcon_build_and_pip_build_talk(spawn: Any, tmp_path: Path, compare: Any) -> None:
    if not (INSTALL / "difftop_ros").is_dir() or not (PIP_SHARE / "msg").is_dir():
        pytest.skip("needs both builds of the messages: run 'make colcon' first")
    installed = INSTALL / "difftop_ros/share/difftop_ros"
    for path in (p for kind in ("msg", "srv", "action") for p in ROOT.glob(f"{kind}/*.{kind}")):
        copy = installed / path.relative_to(ROOT)
        if not copy.is_file() or copy.read_text() != path.read_text():
            pytest.skip(f"the colcon build is older than {path.name}: run 'make colcon' again")
    assert compare.differences(compare.type_hashes(installed), compare.type_hashes(PIP_SHARE)) == []
    (tmp_path / "listener.py").write_text(LISTENER)
    (tmp_path / "talker.py").write_text(TALKER)
    sourced = f'unset PYTHONPATH; source "{INSTALL}/setup.bash" && exec "{sys.executable}" "{tmp_path}/talker.py"'
    listener = spawn([sys.executable, str(tmp_path / "listener.py")], env={"PYTHONPATH": str(ROOT)})
    talker = spawn(["bash", "-c", sourced])
    assert listener.wait(60) == 0, listener.output()
    assert "GOT 5 [1.0, 2.5]" in listener.output()
    assert str(INSTALL) in talker.output() and str(INSTALL) not in listener.output()
