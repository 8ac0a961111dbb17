"""What costs and checks in space read: a costs file with its shapes, and the robot's description."""

from __future__ import annotations

import random
from functools import cached_property
from typing import Any

from tools.fuzz.mutate import changed_bytes
from tools.fuzz.targets.base import ROOT, Target, YamlFile

URDF = """\
<?xml version="1.0"?>
<robot name="two">
  <link name="base"/>
  <link name="upper"><collision><geometry><box size="0.1 0.1 0.4"/></geometry></collision></link>
  <link name="lower"><collision><origin xyz="0 0 0.1" rpy="0 0.5 0"/>
    <geometry><cylinder radius="0.05" length="0.3"/></geometry></collision></link>
  <joint name="a" type="revolute"><parent link="base"/><child link="upper"/><origin xyz="0 0 0.1"/>
    <axis xyz="0 1 0"/><limit lower="-2" upper="2" effort="1" velocity="4"/></joint>
  <joint name="b" type="prismatic"><parent link="upper"/><child link="lower"/><origin xyz="0 0 0.4" rpy="0 0 1.5"/>
    <axis xyz="1 0 0"/><limit lower="0" upper="0.2" effort="1" velocity="4"/></joint>
</robot>
"""
MJCF = """\
<mujoco model="two">
  <compiler angle="radian"/>
  <worldbody>
    <body name="upper" pos="0 0 0.1"><joint name="a" axis="0 1 0" range="-2 2"/><geom type="box" size=".05 .05 .2"/>
      <body name="lower" pos="0 0 0.4" quat="1 0 0 0.2"><joint name="b" type="slide" axis="1 0 0" range="0 .2"/>
        <geom type="capsule" fromto="0 0 0 0 0 .3" size=".05"/><site name="tool" pos="0 0 .3"/></body></body>
  </worldbody>
  <actuator><position joint="a" kp="10"/><position joint="b" kp="10"/></actuator>
</mujoco>
"""
COSTS = """\
tether: 0.5
terms:
  table:
    kind: collision
    margin: 0.03
    shapes:
    - {kind: box, centre: [0.4, 0, 0.2], size: [0.1, 0.2, 0.3], quat_xyzw: [0, 0, 0, 1]}
    - {kind: cylinder, centre: [0.4, 0.2, 0.2], axis: [0, 0, 1], radius: 0.03, length: 0.4}
    - {kind: half_space, point: [0, 0, 0], normal: [0, 0, 1]}
  cloud: {kind: collision, cloud: cloud, low: [0, -0.5, 0], high: [0.5, 0.5, 0.5], cell: 0.05, above: 0.02}
  slow: {kind: joint_speed, share: 0.5, weight: 2}
  high: {kind: tool_height, least: 0.1, most: 1.0}
  upright: {kind: tool_tilt, most: 0.5, axis: [0, 0, -1]}
  smooth: {kind: smoothness}
"""


class CostsFile(YamlFile):
    """A costs file for the demo's arm: read, made, and each cost told what a plan costs."""

    samples = (COSTS,)

    @cached_property
    def contract(self) -> Any:
        """Of the demo, whose robot has a model and spheres."""
        from difftop_ros.contract import load_contract

        return load_contract(ROOT / "config/panda_table.yaml")

    def feed(self, raw: bytes) -> None:
        import torch

        from difftop_ros.costs.load import load_costs

        path = self.folder / "costs.yaml"
        path.write_bytes(raw)
        costs = load_costs(path, self.contract)
        plan = torch.zeros(1, 3, len(self.contract.command.joints))
        for term in costs.terms.values():
            assert not torch.isnan(term(plan, *(part.expand(1, *part.shape) for part in term.data))).any()


class Descriptions(Target):
    """A robot's description, read for kinematics and covered by spheres."""

    def make(self, rng: random.Random) -> bytes:
        pieces = (b"1e308", b"-1", b"nan", b"0 0 0", b"<joint/>", b'"', b"<", b"/>", b"&a;", b"\xff", b"a", b"upper")
        return changed_bytes(rng, rng.choice((URDF, MJCF)).encode(), pieces)

    def feed(self, raw: bytes) -> None:
        import torch

        from difftop_ros.costs.kinematics import RobotModel
        from difftop_ros.errors import UserError
        from difftop_ros.sim.mujoco.spheres import cover

        path = self.folder / "robot.xml"
        path.write_bytes(raw)
        refused = None
        try:
            RobotModel(path, ["a", "b"]).transforms(torch.zeros(2, 2))
        except UserError as error:
            refused = error
        cover(path, 8)
        if refused is not None:
            raise refused
