"""Physics worlds behind one interface, their tasks and scripted experts. No ROS here; nothing heavy until used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difftop_ros.sim.interface import SimExpert, SimWorld

__all__ = ["make_expert", "make_world"]
_METAWORLD = "metaworld/"


def make_world(task: str = "reach", model_path: str | None = None, **options: Any) -> SimWorld:
    """A world with `task`: 'reach', 'push', 'lift' or 'none' of the demo's arm, or 'metaworld/push-v3' and its like.

    See `sim.mujoco.world.World` and `sim.mujoco.metaworld.MetaWorld` for the options. Raises SimError (a UserError)
    when the task is unknown, its package is missing, or the model lacks what the task needs.
    """
    if task.startswith(_METAWORLD):
        from difftop_ros.sim.mujoco.metaworld import MetaWorld

        return MetaWorld(task, model_path, **options)
    from difftop_ros.sim.mujoco.world import World

    return World(task=task, model_path=model_path, **options)


def make_expert(world: Any, **options: Any) -> SimExpert:
    """The scripted expert of a world that `make_world` made. SimError if its task has none."""
    if world.task.name.startswith(_METAWORLD):
        from difftop_ros.sim.mujoco.metaworld import MetaWorldExpert

        return MetaWorldExpert(world, **options)
    from difftop_ros.sim.mujoco.expert import Expert

    return Expert(world, **options)
