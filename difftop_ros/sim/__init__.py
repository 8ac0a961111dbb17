"""Simulated worlds behind one interface, found by their task's name. No ROS here; nothing heavy until used.

A task's name is 'SUITE/TASK', or the task alone for the demo's arm. Another simulator is added without an edit here:
by `register`, or by an entry point of the group 'difftop_ros.simulators' named as the suite, whose value is a module
(or object) with `make_world` and `make_expert` as in `interface.Simulator`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from difftop_ros.errors import require_package
from difftop_ros.sim.errors import SimError

if TYPE_CHECKING:
    from difftop_ros.sim.interface import SimExpert, Simulator, SimWorld

__all__ = ["make_expert", "make_world", "register", "require_simulator", "suites"]
DEFAULT_SUITE = "panda"
ENTRY_POINTS = "difftop_ros.simulators"
_OURS = {
    DEFAULT_SUITE: "difftop_ros.sim.mujoco.panda",
    "metaworld": "difftop_ros.sim.mujoco.metaworld",
    "drake": "difftop_ros.sim.drake.world",
}
ENGINES = {"mujoco": "", "drake": "drake/"}  # of the demo's tasks -> what goes before a task's name
_REGISTERED: dict[str, Simulator] = {}


def register(suite: str, simulator: Simulator) -> None:
    """Makes tasks 'suite/…' known to `make_world`. Raises SimError when the name is taken or cannot be one."""
    if not suite or "/" in suite:
        raise SimError(f"the suite's name is {suite!r}; expected a word without '/'")
    if suite in suites():
        raise SimError(f"the suite {suite!r} is there already; choose another name than {suites()}")
    _REGISTERED[suite] = simulator


def suites() -> list[str]:
    """Names of all suites: ours, the registered ones and those of installed packages."""
    return sorted({*_OURS, *_REGISTERED, *(point.name for point in _entry_points())})


def make_world(task: str = "reach", model_path: Any = None, **options: Any) -> SimWorld:
    """A world with `task`: 'reach', 'push', 'lift' or 'none' of the demo's arm, 'drake/lift', 'metaworld/push-v3', ….

    Options as in `interface.Simulator`. Raises SimError (a UserError) when the task is unknown, its package is
    missing, or the model lacks what the task needs.
    """
    return _simulator(task).make_world(task, model_path, **options)


def make_expert(world: SimWorld) -> SimExpert:
    """The scripted expert of a world that `make_world` made. SimError if its task has none."""
    return _simulator(world.task.name).make_expert(world)


def require_simulator(task: str, what: str) -> None:
    """Raises UserError saying that `what` needs a package, if the task's simulator is not there; before long work."""
    suite = _suite(task)
    if suite not in suites():
        raise _unknown(task)
    if suite in _OURS and suite not in _REGISTERED:
        require_package("pydrake" if suite == "drake" else "mujoco", what)


def _suite(task: str) -> str:
    return task.split("/")[0] if "/" in task else DEFAULT_SUITE


def _unknown(task: str) -> SimError:
    return SimError(f"task '{task}' is of the suite '{_suite(task)}', which is not installed; known are {suites()}")


def _simulator(task: str) -> Simulator:
    suite = _suite(task)
    if suite in _REGISTERED:
        return _REGISTERED[suite]
    found: Any = None
    if suite in _OURS:
        found = importlib.import_module(_OURS[suite])
    for point in _entry_points():
        if found is None and point.name == suite:
            found = point.load()
    if found is None:
        raise _unknown(task)
    return found


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINTS)
