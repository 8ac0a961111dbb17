"""Makes ROS 2 usable in this process, before rclpy is imported: search paths, DDS profile, discovery range.

Lives here: `prepare()`, which every node and every ROS-using command calls first, and the same as a dictionary for
child processes. On a machine with a sourced ROS 2 it changes nothing but the DDS profile, and that only when the user
has chosen none. Not here: anything that creates nodes or imports rclpy at module level.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from difftop_ros.errors import UserError
from difftop_ros.nodes.shared_memory import clean_shared_memory
from difftop_ros.paths import share_path

__all__ = ["clean_shared_memory", "dds_profile", "prepare", "ros_environment"]

# Fast DDS 2 (ROS 2 Jazzy) reads the first, Fast DDS 3 (Kilted and later) the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def dds_profile(local_only: bool = False) -> Path:
    """Path of the shipped Fast DDS profile: the robot's, or the one that keeps to this machine."""
    return share_path("config/dds/fastdds_localhost.xml" if local_only else "config/dds/fastdds.xml")


def ros_environment(*, local_only: bool = False, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of `base` (default: this process's environment) with what ROS 2 needs added.

    local_only: topics stay on this machine (loopback profile, discovery range LOCALHOST); for demo, tests, recording
    in simulation. A DDS profile the user has set is kept; one of ours is exchanged for the one asked for, except that
    a child never widens what its parent has restricted.
    """
    env = dict(os.environ if base is None else base)
    prefix = Path(sys.prefix)
    if (prefix / "share/ament_index/resource_index/packages/rclpy").is_file():  # ROS 2 from pip wheels
        known = [part for part in env.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if part]
        if str(prefix) not in known:
            env["AMENT_PREFIX_PATH"] = os.pathsep.join([*known, str(prefix)])
    replaceable = ("", str(dds_profile(local_only=False)))
    if all(env.get(name, "") in replaceable for name in PROFILE_VARIABLES):
        env.update(dict.fromkeys(PROFILE_VARIABLES, str(dds_profile(local_only))))
    if local_only:
        env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return env


def prepare(*, local_only: bool = False, messages: bool = True) -> None:
    """Applies `ros_environment` to this process and checks that rclpy (and our messages) can be imported.

    Call it before the first import of rclpy. Raises UserError with the remedy when ROS 2 or the generated messages
    are missing.
    """
    os.environ.update(ros_environment(local_only=local_only))
    _require("rclpy", "ROS 2's Python library rclpy")
    if messages:
        _require("difftop_ros.msg", "difftop_ros's generated messages")


def alone(topics: Iterable[str]) -> str:
    """What may be wrong where the graph has no `topics` but those of every node; '' where somebody else is in it."""
    if set(topics) - {"/parameter_events", "/rosout"}:
        return ""
    domain, reach = os.environ.get("ROS_DOMAIN_ID", "0"), os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    return (
        f"nobody is heard in ROS domain {domain} (ROS_DOMAIN_ID) within discovery range {reach}: is the robot in "
        "another domain, on another machine while --local was given, or does the network keep multicast out?"
    )


def _require(module: str, what: str) -> None:
    """Imports `module`; raises UserError naming `what` is missing and how to get it."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{what} cannot be used from {sys.executable}: {error}; {_remedy(module, error)}") from error


def _remedy(module: str, error: ImportError) -> str:
    """One clause saying what to do about a failed import."""
    lib = str(Path(sys.prefix) / "lib")
    from_wheels = (Path(sys.prefix) / "share/ament_index/resource_index/packages/rclpy").is_file()
    if from_wheels and lib not in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        # The wheels re-execute Python once to set LD_LIBRARY_PATH; an inherited marker stops them from doing so.
        return "LD_LIBRARY_PATH was lost on the way; start the process without _ROS_WHEELS_BOOTSTRAP_COMPLETE set"
    if module == "rclpy" and error.name == "rclpy":
        return "run 'make setup' in the source folder and use its .venv, or source your ROS 2 installation"
    return "run 'make setup' in the source folder (pip), or 'colcon build' and source install/setup.bash (ROS 2)"
