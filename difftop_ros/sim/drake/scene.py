"""What the tasks touch of a Drake stage, by the names of its bodies and frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from difftop_ros.sim.drake.stage import Stage
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.tasks import Task


class DrakeScene:
    """Frame 'tcp' of the robot and the free body 'cube'. SimError when the task needs what the world lacks."""

    def __init__(self, stage: Stage, task: Task) -> None:
        plant = stage.plant
        self._stage = stage
        self._tcp = plant.GetFrameByName("tcp", stage.robot) if plant.HasFrameNamed("tcp", stage.robot) else None
        self._cube = plant.GetBodyByName("cube") if plant.HasBodyNamed("cube") else None
        lacking = []
        if task.name != "none" and self._tcp is None:
            lacking.append("a frame 'tcp' between the fingers")
        if task.uses_cube and self._cube is None:
            lacking.append("a free link 'cube'")
        if task.marker:
            lacking.append(f"the marker '{task.marker}', which is drawn in MuJoCo alone")
        if lacking:
            raise SimError(f"task '{task.name}' needs {', '.join(lacking)}; use task lift or none, or engine mujoco")
        self.cube_half = 0.0
        if self._cube is not None:
            (solid,) = plant.GetCollisionGeometriesForBody(self._cube)
            self.cube_half = float(stage.scene.model_inspector().GetShape(solid).height() / 2)

    def tcp(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of the tool's point, in the world."""
        assert self._tcp is not None
        pose = self._tcp.CalcPoseInWorld(self._stage.context)
        return np.array(pose.translation()), np.array(pose.rotation().matrix())

    def tcp_speed(self) -> float:
        """Speed of the tool's point [m/s]."""
        assert self._tcp is not None
        velocity = self._tcp.CalcSpatialVelocityInWorld(self._stage.context)
        return float(np.linalg.norm(velocity.translational()))

    def cube(self) -> tuple[np.ndarray, float, float]:
        """The cube's position (3,) [m], its yaw [rad] within +-45 degrees (it is symmetric) and its speed [m/s]."""
        plant, context = self._stage.plant, self._stage.context
        pose = plant.EvalBodyPoseInWorld(context, self._cube)
        rotation = pose.rotation().matrix()
        yaw = (np.arctan2(rotation[1, 0], rotation[0, 0]) + np.pi / 4) % (np.pi / 2) - np.pi / 4
        speed = plant.EvalBodySpatialVelocityInWorld(context, self._cube).translational()
        return np.array(pose.translation()), float(yaw), float(np.linalg.norm(speed))

    def target(self) -> np.ndarray:
        """There is none. Raises SimError."""
        raise SimError("the world has no target")

    def place_target(self, position: Any) -> None:
        """There is none. Raises SimError."""
        raise SimError("the world has no target")

    def place_cube(self, position: Any, yaw: float) -> None:
        """Lays the cube at rest on the table at (x, y) [m], turned by yaw [rad]."""
        from pydrake.math import RigidTransform, RotationMatrix

        place: Any = [*position, self.cube_half]
        pose = RigidTransform(RotationMatrix.MakeZRotation(yaw), place)
        self._stage.plant.SetFreeBodyPose(self._stage.context, self._cube, pose)

    def touching_cube(self) -> set[int]:
        """Numbers of the moving bodies in contact with the cube."""
        plant = self._stage.plant
        found = plant.get_contact_results_output_port().Eval(self._stage.context)
        query = self._stage.query()
        inspector = query.inspector()
        pairs = [
            tuple(
                int(plant.GetBodyFromFrameId(inspector.GetFrameId(g)).index()) for g in (surface.id_M(), surface.id_N())
            )
            for surface in (
                found.hydroelastic_contact_info(i).contact_surface() for i in range(found.num_hydroelastic_contacts())
            )
        ]
        for i in range(found.num_point_pair_contacts()):
            info = found.point_pair_contact_info(i)
            pairs.append((int(info.bodyA_index()), int(info.bodyB_index())))
        cube = int(self._cube.index()) if self._cube is not None else -1
        touching = {b for pair in pairs if cube in pair for b in pair if b != cube}
        fixed = {int(body.index()) for body in plant.GetBodiesWeldedTo(plant.world_body())}
        return touching - fixed
