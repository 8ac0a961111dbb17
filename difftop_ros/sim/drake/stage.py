"""A Drake plant made of an SDF world, and pictures of it. Time, tasks and commands are world.py's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from difftop_ros.errors import require_package
from difftop_ros.sim.drake.read import SdfWorld
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.interface import Snapshot

STEP_S = 0.002
_HEADLIGHT = (0.22, 0.22, 0.22)  # of models/panda_table/scene.xml; SDF has none
_SKY = 16


class Stage:
    """plant, scene, diagram and a context of them; the robot is never in touch with itself, as in Gazebo."""

    def __init__(self, world: SdfWorld, renderer: str = "") -> None:
        """renderer: name of a render engine to add; '' for physics alone."""
        require_package("pydrake", "the engine drake")
        from pydrake.geometry import CollisionFilterDeclaration, GeometrySet, SceneGraphConfig
        from pydrake.multibody.parsing import Parser
        from pydrake.multibody.plant import AddMultibodyPlantSceneGraph, DiscreteContactApproximation
        from pydrake.systems.framework import DiagramBuilder

        builder = DiagramBuilder()
        self.plant, self.scene = AddMultibodyPlantSceneGraph(builder, STEP_S)
        self.plant.set_discrete_contact_approximation(DiscreteContactApproximation.kLagged)
        config = SceneGraphConfig()
        config.default_proximity_properties.compliance_type = "compliant"  # faces touch as faces, not in one point
        self.scene.set_config(config)
        if renderer:
            self.scene.AddRenderer(renderer, _engine(world))
        Parser(self.plant).AddModelsFromString(world.bodies, "sdf")
        self.robot = self.plant.GetModelInstanceByName(world.robot)
        for name in world.weightless:
            self.plant.set_gravity_enabled(self.plant.GetModelInstanceByName(name), False)
        self._servos(world)
        self.plant.Finalize()
        bodies = [self.plant.get_body(i) for i in self.plant.GetBodyIndices(self.robot)]
        own = GeometrySet([g for body in bodies for g in self.plant.GetCollisionGeometriesForBody(body)])
        self.scene.collision_filter_manager().Apply(CollisionFilterDeclaration().ExcludeWithin(own))
        self.diagram = builder.Build()
        self.root = self.diagram.CreateDefaultContext()
        self.context = self.plant.GetMyMutableContextFromRoot(self.root)

    def _servos(self, world: SdfWorld) -> None:
        from pydrake.multibody.tree import PdControllerGains

        for name, gains in world.gains.items():
            actuator = self.plant.GetJointActuatorByName(name, self.robot)
            actuator.set_controller_gains(PdControllerGains(p=gains.position, d=gains.velocity))

    def query(self) -> Any:
        """What the scene knows of the present positions."""
        return self.scene.get_query_output_port().Eval(self.scene.GetMyContextFromRoot(self.root))

    def pose(self, world: SdfWorld, camera: str) -> np.ndarray:
        """world_from_optical (4, 4) [m]."""
        found = world.cameras[camera]
        body = self.plant.GetBodyByName(found.link, self.plant.GetModelInstanceByName(found.model))
        return self.plant.EvalBodyPoseInWorld(self.context, body).GetAsMatrix4() @ found.link_from_optical


class DrakeRenderer:
    """Draws snapshots of a world; made, used and closed in one thread."""

    _NAME = "vtk"

    def __init__(self, world: SdfWorld, width: int, height: int) -> None:
        self._world, self._size = world, (width, height)
        self._stage = Stage(world, self._NAME)

    def render(self, snapshot: Snapshot, camera: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3), depth float32 (h, w) [m] and world_from_optical (4, 4) at the snapshot's moment."""
        from pydrake.geometry import (
            ClippingRange,
            ColorRenderCamera,
            DepthRange,
            DepthRenderCamera,
            RenderCameraCore,
        )
        from pydrake.math import RigidTransform
        from pydrake.systems.sensors import CameraInfo

        if camera not in self._world.cameras:
            raise SimError(f"camera '{camera}' is not in the world; it has {list(self._world.cameras)}")
        stage, found, (width, height) = self._stage, self._world.cameras[camera], self._size
        stage.plant.SetPositions(stage.context, snapshot["positions"])
        k = intrinsics(found.fovy, width, height)
        # Drake draws pixel (0, 0) with its corner, not its centre, at (0, 0)
        lens = CameraInfo(width, height, k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)
        core = RenderCameraCore(self._NAME, lens, ClippingRange(found.near, found.far), RigidTransform())
        pose: Any = stage.pose(self._world, camera)
        query, frame, place = stage.query(), stage.scene.world_frame_id(), RigidTransform(pose)
        colour = query.RenderColorImage(ColorRenderCamera(core), frame, place)
        depth = query.RenderDepthImage(DepthRenderCamera(core, DepthRange(found.near, found.far)), frame, place)
        metres = np.array(depth.data[..., 0], np.float32)
        metres[~np.isfinite(metres)] = found.far
        return np.array(colour.data[..., :3]), metres, pose

    def close(self) -> None:
        """Frees the scene; may be called twice."""


def intrinsics(fovy: float, width: int, height: int) -> np.ndarray:
    """K (3, 3) float64 [px]; pixel (0, 0) has its centre at (0, 0)."""
    focal = 0.5 * height / np.tan(fovy / 2)
    return np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])


def _engine(world: SdfWorld) -> Any:
    """The world's lights; light from everywhere is many weak ones. A camera brings a light, as in MuJoCo."""
    from pydrake.geometry import LightParameter, MakeRenderEngineVtk, RenderEngineVtkParams, Rgba

    def light(frame: str, direction: Any, colour: Any, share: float = 1.0) -> Any:
        diffuse = Rgba(*(min(1.0, float(c)) for c in colour))
        return LightParameter(type="directional", frame=frame, direction=direction, color=diffuse, intensity=share)

    lights = [light("camera", [0.0, 0.0, 1.0], _HEADLIGHT)]
    lights += [light("world", direction, colour) for direction, colour in world.lights]
    # n lights from everywhere, each seen by half of all faces at a mean cosine of a half: n/4 in all
    lights += [light("world", direction, world.ambient, 4 / _SKY) for direction in _everywhere(_SKY)]
    backend = "" if os.environ.get("DISPLAY") else "EGL"
    return MakeRenderEngineVtk(RenderEngineVtkParams(lights=lights, backend=backend))


def _everywhere(count: int) -> np.ndarray:
    """Directions (count, 3), evenly spread over the sphere."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
