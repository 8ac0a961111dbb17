"""The error of a robot's model."""

from __future__ import annotations

from difftop_ros.errors import UserError


class RobotModelError(UserError):
    """The robot's description cannot be read, or does not have what is asked of it."""
