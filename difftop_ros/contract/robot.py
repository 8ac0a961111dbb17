"""The robot's own model: where its description stands, and which of its frames and joints are which."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from difftop_ros.contract.base import Name, Section, Text, Topic
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path


class RobotSection(Section):
    """What costs, checks in space and moving cameras need of the robot; a policy without them needs nothing of it.

    name: words for people. description: URDF or MJCF; spheres: what `difftop contract spheres` wrote of it; both are
    paths, absolute, from the working directory or of a file that ships with the package.
    tool_frame: the description's frame at the point between the fingers.
    coupling: for a commanded joint that the description does not have, the joints it moves, and by how much per unit.
    tf, tf_static: topics of TF, read where a transform says tf, and by `contract check`.
    """

    name: Text = ""
    description: Text | None = None
    spheres: Text | None = None
    tool_frame: Name | None = None
    coupling: dict[Name, dict[Name, float]] = Field(default_factory=dict, max_length=64)
    tf: Topic = "/tf"
    tf_static: Topic = "/tf_static"

    def path(self, key: str) -> Path:
        """The file that 'description' or 'spheres' names. Raises UserError if none is named, or it is nowhere."""
        named = getattr(self, key)
        if named is None:
            raise UserError(f"robot.{key} is not in the contract; add the path of the robot's {key}")
        here = Path(named).expanduser()
        return here.absolute() if here.is_file() else share_path(named)

    def content(self, key: str) -> str:
        """Hash of the file that 'description' or 'spheres' names; its name where it cannot be read here."""
        try:
            return hashlib.sha256(self.path(key).read_bytes()).hexdigest()
        except (UserError, OSError):
            return str(getattr(self, key))


def _words(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Robot = Annotated[RobotSection, BeforeValidator(_words)]  # `robot: my arm` is short for `robot: {name: my arm}`
