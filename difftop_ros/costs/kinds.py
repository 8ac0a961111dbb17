"""The kinds of cost that a costs file may name, each with its figures. Reading the file: load.py.

A kind of your own is a subclass of CostOptions with a `kind` and a `make`, offered by an installed package under the
entry point group `difftop_ros.costs`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from difftop_ros.contract import Contract
from difftop_ros.contract.base import Section, Vector3
from difftop_ros.contract.shapes import AnyShape, Box
from difftop_ros.contract.surroundings import Surroundings
from difftop_ros.costs.collision import Collision
from difftop_ros.costs.field import Grid
from difftop_ros.costs.kinematics import RobotModel
from difftop_ros.costs.motion import JointSpeed, ToolHeight, ToolTilt
from difftop_ros.costs.shapes import Shapes
from difftop_ros.costs.smoothness import Smoothness
from difftop_ros.costs.term import CostTerm
from difftop_ros.costs.terms.joints import Jerk, JointAcceleration, NearPlan
from difftop_ros.costs.terms.self_collision import SelfCollision
from difftop_ros.costs.terms.tool import ToolRegion, ToolSpeed
from difftop_ros.errors import UserError
from difftop_ros.space import body_of
from difftop_ros.space.sight import Sight


@dataclass(frozen=True)
class Making:
    """What costs are made for: a contract, and the robot's model if the contract has one."""

    contract: Contract

    @cached_property
    def robot(self) -> RobotModel:
        """The robot's model with its spheres. Raises UserError naming what the contract lacks."""
        return RobotModel.of(body_of(self.contract))

    @property
    def tool(self) -> str:
        """The tool's frame. Raises UserError if the contract names none."""
        if self.contract.robot.tool_frame is None:
            raise UserError(
                "this cost needs robot.tool_frame in the contract: the frame of the point between the fingers"
            )
        return self.contract.robot.tool_frame


class CostOptions(Section):
    """What every cost has. `make` raises UserError for what does not suit the contract."""

    kind: ClassVar[str]
    weight: float = Field(1.0, ge=0, le=1e9, description="how much it counts; 0 switches it off")

    @abstractmethod
    def make(self, making: Making) -> CostTerm:
        """The cost itself."""


class CollisionOptions(Surroundings, CostOptions):
    """The robot's spheres stay clear of shapes, and of the points of a cloud."""

    kind = "collision"
    weight: float = Field(30.0, ge=0, le=1e9, description="how much it counts; 0 switches it off")
    margin: float = Field(0.015, ge=1e-4, le=0.5, description="distance from which on it costs [m]")
    cell: float = Field(0.03, ge=0.01, le=0.2, description="edge of the cells in which a cloud is looked up [m]")
    withhold: bool = Field(True, description="show the policy its clouds without the points of these obstacles")
    between: int = Field(1, ge=0, le=8, description="configurations looked at between two steps")

    def make(self, making: Making) -> Collision:
        """See CostOptions."""
        if making.robot.body.spheres is None:
            raise UserError(
                "collision needs the robot's spheres; write them with 'difftop contract spheres' and name "
                "the file in robot.spheres"
            )
        Sight(making.robot.body, self, making.contract)  # says now if there is no such cloud
        grid = None if self.cloud is None else Grid.over(self.low, self.high, self.cell)
        term = Collision(making.robot, margin=self.margin, weight=self.weight, grid=grid, between=self.between)
        term.shapes = Shapes.of(self.shapes)
        return term


class SmoothnessOptions(CostOptions):
    """The plan's accelerations, squared."""

    kind = "smoothness"
    weight: float = Field(1e-3, ge=0, le=1e9, description="per (unit / s^2)^2, of the mean over the plan")

    def make(self, making: Making) -> Smoothness:
        """See CostOptions."""
        return Smoothness(making.contract.rate_hz, self.weight)


class JointSpeedOptions(CostOptions):
    """Joints slower than a share of their velocity limits."""

    kind = "joint_speed"
    share: float = Field(0.5, ge=1e-3, le=1, description="of the contract's velocity limits")

    def make(self, making: Making) -> JointSpeed:
        """See CostOptions."""
        limits = [self.share * joint.velocity for joint in making.contract.command.joints]
        return JointSpeed(limits, making.contract.rate_hz, self.weight)


class ToolHeightOptions(CostOptions):
    """The tool's point stays between two heights."""

    kind = "tool_height"
    least: float = Field(-10.0, ge=-1e3, le=1e3, description="lowest height [m]")
    most: float = Field(10.0, ge=-1e3, le=1e3, description="highest height [m]")

    def make(self, making: Making) -> ToolHeight:
        """See CostOptions."""
        try:
            return ToolHeight(making.robot, making.tool, self.least, self.most, self.weight)
        except ValueError as error:
            raise UserError(str(error)) from None


class ToolTiltOptions(CostOptions):
    """The tool's z axis leans no further than an angle from a direction."""

    kind = "tool_tilt"
    most: float = Field(0.3, ge=1e-3, lt=torch.pi, description="largest lean [rad]")
    axis: Vector3 = Field((0.0, 0.0, -1.0), description="direction of the base frame it leans from, length 1")

    def make(self, making: Making) -> ToolTilt:
        """See CostOptions."""
        return ToolTilt(making.robot, making.tool, self.most, self.axis, self.weight)


class SelfCollisionOptions(CostOptions):
    """The robot's spheres stay clear of each other."""

    kind = "self_collision"
    weight: float = Field(3.0, ge=0, le=1e9, description="how much it counts; 0 switches it off")
    margin: float = Field(0.01, ge=1e-4, le=0.2, description="distance from which on it costs [m]")
    rest: tuple[float, ...] | None = Field(
        None, description="commands of a pose in which nothing touches; the middle of the limits if left out"
    )

    def make(self, making: Making) -> SelfCollision:
        """See CostOptions."""
        low, high = (np.array(side) for side in making.contract.command.bounds())
        names = making.contract.command.joint_names
        rest = (low + high) / 2 if self.rest is None else np.array(self.rest)
        if rest.shape != low.shape:
            raise UserError(f"rest has {len(rest)} numbers; expected {len(names)}, one for each of {names}")
        if making.robot.body.spheres is None:
            raise UserError(making.robot.body.lacks_spheres)
        try:
            return SelfCollision(making.robot, rest.tolist(), margin=self.margin, weight=self.weight)
        except ValueError as error:
            raise UserError(str(error)) from None


class ToolSpeedOptions(CostOptions):
    """The tool's point goes no faster than a limit."""

    kind = "tool_speed"
    most: float = Field(0.25, ge=1e-3, le=1e2, description="largest speed [m/s]")

    def make(self, making: Making) -> ToolSpeed:
        """See CostOptions."""
        return ToolSpeed(making.robot, making.tool, self.most, making.contract.rate_hz, self.weight)


class ToolRegionOptions(CostOptions):
    """The tool's point stays inside a box and outside shapes."""

    kind = "tool_region"
    keep_in: Box | None = Field(None, description="box to stay in")
    keep_out: tuple[AnyShape, ...] = Field((), max_length=64, description="shapes to stay out of")
    margin: float = Field(0.0, ge=0, le=1, description="by which shapes count as larger and the box as smaller [m]")

    def make(self, making: Making) -> ToolRegion:
        """See CostOptions."""
        try:
            return ToolRegion(making.robot, making.tool, self.keep_in, self.keep_out, self.margin, self.weight)
        except ValueError as error:
            raise UserError(str(error)) from None


class JointAccelerationOptions(CostOptions):
    """Joints accelerate less than a share of their limits."""

    kind = "joint_acceleration"
    share: float = Field(0.5, ge=1e-3, le=1, description="of the contract's acceleration limits")

    def make(self, making: Making) -> JointAcceleration:
        """See CostOptions."""
        joints = making.contract.command.joints
        limits = [float("inf") if joint.acceleration is None else self.share * joint.acceleration for joint in joints]
        if not np.isfinite(limits).any():
            raise UserError("no joint of the contract has an acceleration limit; give command.joints 'acceleration'")
        return JointAcceleration(limits, making.contract.rate_hz, self.weight)


class JerkOptions(CostOptions):
    """The plan's jerk, squared."""

    kind = "jerk"
    weight: float = Field(1e-6, ge=0, le=1e9, description="per (unit / s^3)^2, of the mean over the plan")

    def make(self, making: Making) -> Jerk:
        """See CostOptions."""
        return Jerk(making.contract.rate_hz, self.weight)


class NearPlanOptions(CostOptions):
    """The plan stays near the one in force, as far as that goes on."""

    kind = "near_plan"
    weight: float = Field(1.0, ge=0, le=1e9, description="per (step at top speed)^2, beside the solve's tether")

    def make(self, making: Making) -> NearPlan:
        """See CostOptions."""
        contract = making.contract
        return NearPlan([joint.velocity / contract.rate_hz for joint in contract.command.joints], self.weight)


OURS: dict[str, type[CostOptions]] = {
    options.kind: options
    for options in (
        CollisionOptions, SelfCollisionOptions, ToolHeightOptions, ToolTiltOptions, ToolSpeedOptions, ToolRegionOptions,
        JointSpeedOptions, JointAccelerationOptions, SmoothnessOptions, JerkOptions, NearPlanOptions,
    )
}  # fmt: skip
