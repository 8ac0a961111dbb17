"""The contract: commands, limits, rates and the rules between them. Observations: observations.py; YAML: load.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from difftop_ros.contract.base import (
    Coupling,
    Key,
    Name,
    Observation,
    Section,
    Text,
    Topic,
    require_coupled,
    require_unique,
)
from difftop_ros.contract.observations import AnyObservation
from difftop_ros.contract.robot import Robot, RobotSection

COMMAND_TYPES = Literal[
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
]
# What a joint can be [rad or m, per s, s^2, s^3]: limits beyond would be none, smaller ones a joint that never moves.
FARTHEST_JOINT, FASTEST_JOINT, LARGEST_ACCELERATION, LARGEST_JERK, SMALLEST = 1e4, 1e3, 1e5, 1e7, 1e-6
Position = Annotated[float, Field(ge=-FARTHEST_JOINT, le=FARTHEST_JOINT)]


class JointLimits(Section):
    """One commanded joint. Units are [unit] with /s, /s^2, /s^3; `step` is the largest change per control tick.

    continuous: it turns without end and its driver's angles wrap around at pi; positions here go on counting.
    """

    name: Name
    unit: Literal["rad", "m"] = "rad"
    position: tuple[Position, Position]
    velocity: float = Field(ge=SMALLEST, le=FASTEST_JOINT)
    acceleration: float | None = Field(default=None, ge=SMALLEST, le=LARGEST_ACCELERATION)
    jerk: float | None = Field(default=None, ge=SMALLEST, le=LARGEST_JERK)
    step: float | None = Field(default=None, ge=SMALLEST, le=FASTEST_JOINT)
    continuous: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> JointLimits:
        if self.position[0] >= self.position[1]:
            raise ValueError(f"position limits of '{self.name}' are {list(self.position)}; the lower must come first")
        if self.position[1] - self.position[0] < SMALLEST:
            raise ValueError(
                f"position limits of '{self.name}' are {list(self.position)}; they must be {SMALLEST:g} or more apart"
            )
        if self.continuous and self.unit != "rad":
            raise ValueError(f"'{self.name}' is continuous and in {self.unit}; only angles [rad] turn without end")
        return self


class Gripper(Section):
    """A commanded joint that goes to a gripper's action instead of with the others.

    scale: of the joint's value, what the action's position is (.5 for one finger of two); max_effort [N] of each goal,
    null leaves it to the controller.
    """

    joint: Name
    action: Topic
    type: Literal["control_msgs/action/ParallelGripperCommand", "control_msgs/action/GripperCommand"] = (
        "control_msgs/action/ParallelGripperCommand"
    )
    scale: float = Field(default=1.0, ge=-1e3, le=1e3)
    max_effort: float | None = Field(default=None, gt=0, le=1e6)

    @model_validator(mode="after")
    def _moves(self) -> Gripper:
        if abs(self.scale) < SMALLEST:
            raise ValueError(f"scale of the gripper is {self.scale}; with that it would never move")
        return self


class Command(Section):
    """What the policy may publish: `mode` position [unit], velocity [unit/s] or delta_position [unit per step].

    trajectory_s: a JointTrajectory carries the coming commands for so long [s], then a stop; None: the next one alone.
    coupling: for a joint that the driver does not have, the driver's joints that its messages name instead.
    action: trajectories leave as goals of this FollowJointTrajectory, nothing is published on `topic`.
    gripper: a joint that leaves as goals of a gripper's action.
    """

    topic: Topic
    type: COMMAND_TYPES
    mode: Literal["position", "velocity", "delta_position"] = "position"
    joints: tuple[JointLimits, ...] = Field(min_length=1, max_length=256)
    coupling: Coupling | None = Field(default=None, max_length=64)
    trajectory_s: float | None = Field(default=None, ge=0.02, le=10)
    action: Topic | None = None
    gripper: Gripper | None = None

    @property
    def header(self) -> bool:
        """Whether its messages begin with a std_msgs/Header."""
        return self.type != "std_msgs/msg/Float64MultiArray"

    @model_validator(mode="after")
    def _consistent(self) -> Command:
        require_unique([joint.name for joint in self.joints], "command.joints")
        require_coupled(self.coupling, self.joint_names, "command.coupling")
        if self.mode == "delta_position":
            lacking = [joint.name for joint in self.joints if joint.step is None]
            if lacking:
                raise ValueError(f"mode delta_position needs 'step' (largest increment) for joints {lacking}")
        if self.type == "trajectory_msgs/msg/JointTrajectory" and self.mode == "delta_position":
            raise ValueError("a JointTrajectory carries positions or velocities; use mode position or velocity")
        if self.trajectory_s and (self.type != "trajectory_msgs/msg/JointTrajectory" or self.mode != "position"):
            raise ValueError("trajectory_s is for a JointTrajectory in mode position; leave it out, or use those")
        if self.action and not self.trajectory_s:
            raise ValueError("command.action takes whole trajectories; set trajectory_s, such as 0.5")
        if self.gripper is not None:
            self._check_gripper(self.gripper)
        return self

    def _check_gripper(self, gripper: Gripper) -> None:
        if gripper.joint not in self.joint_names or len(self.joints) < 2:
            raise ValueError(
                f"command.gripper names '{gripper.joint}'; name one of the several joints in {self.joint_names}"
            )
        if self.mode != "position":
            raise ValueError(f"command.gripper takes positions, mode is {self.mode}; use mode position")

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions by which commands leave."""
        return tuple(name for name in (self.action, self.gripper.action if self.gripper else None) if name)

    def without_gripper(self) -> tuple[Command, list[int]]:
        """The command of the other joints, and their places among the joints; all of them where there is no gripper."""
        gripper = self.gripper.joint if self.gripper else None
        kept = [index for index, joint in enumerate(self.joints) if joint.name != gripper]
        coupling = {name: parts for name, parts in (self.coupling or {}).items() if name != gripper} or None
        joints = tuple(self.joints[index] for index in kept)
        return self.model_copy(update={"joints": joints, "coupling": coupling, "gripper": None}), kept

    @property
    def joint_names(self) -> list[str]:
        """Joint names in command order (A,)."""
        return [joint.name for joint in self.joints]

    def driven(self, joint: str) -> dict[str, float]:
        """The driver's joints that messages name for one of ours, and how far each moves per unit."""
        return (self.coupling or {}).get(joint, {joint: 1.0})

    def bounds(self) -> tuple[list[float], list[float]]:
        """Lower and upper bound of one action per joint, (A,) each, in the mode's unit."""
        if self.mode == "position":
            return [j.position[0] for j in self.joints], [j.position[1] for j in self.joints]
        size = [j.velocity if self.mode == "velocity" else float(j.step or 0.0) for j in self.joints]
        return [-s for s in size], size


class Episode(Section):
    """An episode's marks: its longest duration [s], the std_msgs/Bool topic that tells success, as a simulation does,

    and the std_msgs/Float64 topic that tells what each moment is worth, for policies that learn by trying.
    """

    max_seconds: float = Field(default=60.0, ge=0.01, le=86_400)
    success_topic: Topic | None = None
    reward_topic: Topic | None = None

    @property
    def rewarded_on(self) -> str:
        """The topic of rewards; where none is named that of the simulation bridge, in the node's namespace."""
        return self.reward_topic or "sim/reward"


class SimSection(Section):
    """Read by the simulation bridge alone: task, MJCF path, picture size [px], observation key -> camera name."""

    task: Text | None = None
    model: Annotated[str, Field(max_length=4096)] | None = None
    width: int = Field(default=160, ge=16, le=1920)
    height: int = Field(default=120, ge=16, le=1080)
    cameras: dict[Key, Text] = Field(default_factory=dict, max_length=64)


class Contract(Section):
    """One robot and task. `rate_hz` is the policy's step and resampling rate; `control_rate_hz` the publishing rate."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_\-]+$")
    robot: Robot = RobotSection()
    rate_hz: float = Field(ge=0.01, le=1000)
    control_rate_hz: float = Field(ge=0.01, le=1000)
    clock: Literal["header", "receive"] = "header"
    command: Command
    observations: dict[Key, AnyObservation] = Field(min_length=1, max_length=64)
    episode: Episode = Episode()
    sim: SimSection = SimSection()

    @model_validator(mode="after")
    def _across(self) -> Contract:
        if self.control_rate_hz < self.rate_hz:
            raise ValueError(f"control_rate_hz {self.control_rate_hz} is below rate_hz {self.rate_hz}; raise it")
        measured = {name for o in self.observations.values() for name in o.positions}
        lacking = [n for n in self.command.joint_names if n not in measured]
        if lacking:
            raise ValueError(
                f"the position of commanded joints {lacking} is measured by no joint_state observation; without it a "
                "command cannot be checked: add the joints, and 'position' to its fields"
            )
        if "action" in self.observations:
            raise ValueError("an observation is called 'action', as datasets call the commands; give it another name")
        unknown = sorted(set(self.sim.cameras) - set(self.observations))
        if unknown:
            raise ValueError(f"sim.cameras names {unknown}, which are not observations {sorted(self.observations)}")
        placed = [key for key, obs in self.observations.items() if any(not place.base for place in obs.places)]
        if placed and self.robot.description is None:
            raise ValueError(
                f"observations {placed} move with the robot, whose model is not named: add robot.description (URDF or "
                "MJCF)"
            )
        by_tool = [key for key, obs in self.observations.items() if any(not place.link for place in obs.places)]
        if by_tool and self.robot.tool_frame is None:
            raise ValueError(
                f"observations {by_tool} are of the robot's tool, which is not named: add robot.tool_frame, the "
                "description's frame at the point between the fingers"
            )
        joint_topics = [o.topic for o in self.observations.values() if o.positions]
        astray = [k for k, o in self.observations.items() if o.kind == "tool_pose" and o.topic not in joint_topics]
        if astray:
            raise ValueError(
                f"the topics of the tool poses {astray} are those of no joint_state observation with positions: give "
                f"one of {joint_topics}"
            )
        if any(o.topic == self.command.topic for o in self.observations.values()):
            raise ValueError(f"topic {self.command.topic!r} is both the command and an observation")
        return self

    @property
    def continuous(self) -> frozenset[str]:
        """Joints whose angles wrap around at pi in messages, and go on counting in frames and actions."""
        observed = {name for o in self.observations.values() for name in getattr(o, "continuous", ())}
        return frozenset(observed | {joint.name for joint in self.command.joints if joint.continuous})

    @property
    def unstamped(self) -> frozenset[str]:
        """Topics whose messages count from when they are received: all under clock 'receive', or without a header."""
        received = self.clock == "receive"
        topics = {t for o in self.observations.values() if received or not o.header for t in o.topics}
        return frozenset(topics | ({self.command.topic} if received or not self.command.header else set()))

    @property
    def measured(self) -> list[tuple[str, int]]:
        """For each commanded joint (A,), the observation and the row of its frame that hold its measured position."""
        return [
            next((key, obs.positions[name]) for key, obs in self.observations.items() if name in obs.positions)
            for name in self.command.joint_names
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse_contract` reads back to an equal contract."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """YAML text that `parse_contract` reads back to an equal contract."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=120)

    def in_namespace(self, namespace: str) -> Contract:
        """The same contract with its relative topics made absolute in `namespace` ('/' or '/left')."""
        return Contract.model_validate(self.to_dict(), context={"namespace": namespace})

    def as_recorded(self, topics: Collection[str]) -> Contract:
        """The contract in the namespace whose robot is in a bag of these `topics`; in '/' if it is in none or several.

        So the bags of a robot in a namespace train a policy for any other.
        """
        wanted = self.in_namespace("/").command.topic
        spaces = [topic.removesuffix(wanted) or "/" for topic in topics if topic.endswith(wanted)]
        return self.in_namespace(spaces[0] if len(spaces) == 1 else "/")

    @property
    def sha256(self) -> str:
        """Hash of all that is real on a robot; the `sim` section is left out."""
        content = {k: v for k, v in self.to_dict().items() if k != "sim"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def data_sha256(self) -> str:
        """Hash of what decides an ingested dataset's content: rates, clock, command, observations, their model."""
        keys = ["rate_hz", "clock", "command", "observations", "episode"]
        content = {k: v for k, v in self.to_dict().items() if k in keys}
        for way in ("action", "gripper"):  # how a command leaves is no matter of the data
            content["command"].pop(way, None)
        if any(not place.base for obs in self.observations.values() for place in obs.places):
            content["robot"] = [self.robot.content("description"), self.robot.coupling]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def incompatibilities(self, trained: Contract) -> list[str]:
        """Why a policy trained under `trained` cannot run under this contract; empty if it can.

        Topics, transports, ages and limits may differ; what decides the meaning of a number may not.
        """
        found = []
        if self.rate_hz != trained.rate_hz:
            found.append(f"rate_hz is {self.rate_hz}, the policy was trained at {trained.rate_hz}")
        for name in ("mode", "joint_names"):
            here, there = getattr(self.command, name), getattr(trained.command, name)
            if here != there:
                found.append(f"command.{name} is {here}, the policy was trained with {there}")
        units = [[j.unit for j in c.command.joints] for c in (self, trained)]
        if units[0] != units[1]:
            found.append(f"command joint units are {units[0]}, the policy was trained with {units[1]}")
        turning = [sorted(c.continuous) for c in (self, trained)]
        if turning[0] != turning[1]:
            found.append(f"continuous joints are {turning[0]}, the policy was trained with {turning[1]}")
        for key, there in trained.observations.items():
            here = self.observations.get(key)
            if here is None:
                found.append(f"observations lacks '{key}', which the policy was trained with")
                continue
            found += _meaning_differences(key, here, there)
        return found


def _meaning_differences(key: str, here: Observation, there: Observation) -> list[str]:
    # A cloud is a cloud, whether measured or made of a depth picture; of other modalities the kind must be the same.
    if here.kind != there.kind and not here.modality == there.modality == "cloud":
        return [f"observation '{key}' is a {here.kind}, the policy was trained with a {there.kind}"]
    fields = [f for f in type(there).model_fields if f not in there.transport and f in type(here).model_fields]
    return [
        f"observation '{key}' has {f} = {getattr(here, f)}, the policy was trained with {getattr(there, f)}"
        for f in fields
        if getattr(here, f) != getattr(there, f)
    ]
