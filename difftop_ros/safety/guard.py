"""What keeps commanded motion off the table, known shapes and what a camera sees, whatever policy planned it.

Two questions are asked of it: of every plan, where its next moments lead (planner's thread); of every command, where
the robot would come to rest if it were stopped right after (the gate, at every tick). So the hold that follows a
refusal leads along a way that was looked at before. numpy alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from difftop_ros.contract import Contract
from difftop_ros.contract.run_limits import RunLimits, ToolLimits
from difftop_ros.contract.surroundings import Surroundings
from difftop_ros.contract.validated import validated
from difftop_ros.errors import UserError
from difftop_ros.plain_yaml import read_yaml
from difftop_ros.safety.braking import stopping_way
from difftop_ros.safety.checks.base import LastCommand
from difftop_ros.space.body import Body, body_of
from difftop_ros.space.near import Scene, first_touch
from difftop_ros.space.sight import Sight
from difftop_ros.space.tool import tool_region

SAMPLES = 6  # of a plan's next moments


class GuardError(UserError):
    """A file of surroundings cannot be used; the message has one line per finding."""


class GuardOptions(Surroundings):
    """What the gate keeps the robot off."""

    margin: float = Field(0.005, ge=0, le=0.5, description="nearest that a sphere may come [m]")
    look_ahead_s: float = Field(0.3, ge=0, le=5, description="how far a plan is followed ahead [s]")


class Guard:
    """A robot's body among its surroundings. `see` may be called by one thread while others ask."""

    def __init__(self, options: GuardOptions, contract: Contract, tool: ToolLimits | None = None) -> None:
        """tool: where its point may be. Raises UserError for a contract without the robot's model, its spheres if there
        is anything to keep clear of, the cloud or the tool's frame."""
        self.options, self.contract = options, contract
        self.body: Body = body_of(contract)
        self._tool = None if tool is None else tool_region(tool, self.body, contract)
        self.scene = Scene(options.shapes)
        if options.shapes or options.cloud:
            Sight(self.body, options, contract)  # says now if there is no such cloud, or if there are no spheres

    def sight(self) -> Sight | None:
        """A new one, that tells obstacle points of the options' cloud; None without a cloud."""
        return Sight(self.body, self.options, self.contract) if self.options.cloud else None

    def see(self, points: np.ndarray) -> None:
        """From now on these points (n, 3) [m] are in the way, and no others."""
        self.scene = Scene(self.options.shapes, points)

    def contained(self, position: np.ndarray) -> str:
        """Which shape contains a part of the robot at `position` (A,), as a sentence; '' if none does."""
        if not self.options.shapes:
            return ""
        scene = Scene(self.options.shapes)
        distance, which = scene.distance(self.body.centres(position[None])[0])
        sphere = int(distance.argmin())
        assert self.body.spheres is not None
        if distance[sphere] >= 0:
            return ""
        return (
            f"{self.body.spheres.links[sphere]} stands inside {scene.name(int(which[sphere]))}, "
            f"{-1e3 * distance[sphere]:.0f} mm deep; correct that shape, or move the robot away by hand"
        )

    def along(self, path: np.ndarray) -> str:
        """Why the straight ways between positions path (K, A) must not be gone, '' if they may."""
        touch = first_touch(self.body, self.scene, path, self.options.margin)
        if touch is not None:
            return f"{touch}; margin is {1e3 * self.options.margin:g} mm"
        return "" if self._tool is None else self._tool.sentence(path)

    def stopping(self, values: np.ndarray, last: LastCommand) -> str:
        """Why position command `values` (A,) must not be sent after `last`: its way to rest touches. '' if it may."""
        if last.position is None:
            return ""
        after = last.next(values)
        way = stopping_way(values, after.speed, after.acceleration, last.limits.dt, last.limits.per_tick)
        return self.along(np.concatenate([last.position[None], way]))


def load_limits(path: str | Path) -> RunLimits:
    """The limits that a costs file sets for its run. Raises UserError with one line per finding."""
    data = read_yaml(path, "costs file", GuardError).data
    limits = data.get("limits", {}) if isinstance(data, dict) else {}
    return validated(RunLimits, limits, f"{path}: limits", GuardError)


def make_guard(surroundings: str, limits: RunLimits, contract: Contract) -> Guard | None:
    """What keeps a run off the surroundings of a file ('': none) and its tool within limits; None for neither."""
    if not surroundings and limits.tool is None:
        return None
    return (
        load_guard(surroundings, contract, limits.tool)
        if surroundings
        else Guard(GuardOptions(), contract, limits.tool)
    )


def load_guard(path: str | Path, contract: Contract, tool: ToolLimits | None = None) -> Guard:
    """The guard of a file of surroundings for `contract`. Raises UserError with one line per finding."""
    data = read_yaml(path, "surroundings", GuardError).data
    if not isinstance(data, dict):
        raise GuardError(f"{path}: expected 'shapes:' or 'cloud:' with what must not be touched, got {data!r:.60}")
    options = validated(GuardOptions, data, str(path), GuardError)
    if not options.shapes and options.cloud is None:
        raise GuardError(f"{path} names neither shapes nor a cloud; name what must not be touched")
    try:
        return Guard(options, contract, tool)
    except UserError as error:
        raise GuardError(f"{path}: {error}") from None
