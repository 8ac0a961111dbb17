"""A description as a USD stage: rigid bodies, collision shapes, an articulation with drives, cameras. Needs usd-core.

Units are metres and kilograms; USD counts angles of hinges in degrees, so stiffness and damping are per degree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from difftop_ros.errors import require_package
from difftop_ros.sim.gazebo.describe import Body, Camera, Description, Joint, Pose, Servo, Shape

ROBOT, THINGS, SURROUNDINGS, CAMERAS = "/World/robot", "/World/things", "/World/surroundings", "/World/cameras"
# USD's cameras look along -z with y up; the description's along x with z up.
_DESCRIBED_FROM_USD = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_APERTURE = 20.955  # [mm], USD's usual width of a sensor


def make_stage(description: Description, width: int, height: int) -> Any:
    """A pxr.Usd.Stage in memory; width, height: of the cameras' pictures [px]. UserError where usd-core is missing."""
    require_package("pxr", "the stage of Isaac Sim")
    from pxr import Gf, Usd, UsdGeom, UsdLux, UsdPhysics

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    physics = UsdPhysics.Scene.Define(stage, "/World/physics")
    physics.CreateGravityDirectionAttr(Gf.Vec3f(0, 0, -1))
    physics.CreateGravityMagnitudeAttr(9.81)
    for number, light in enumerate(description.lights):
        sun = UsdLux.DistantLight.Define(stage, f"/World/sun_{number}")
        sun.CreateIntensityAttr(2000.0)
        _place(sun, Pose(np.zeros(3), _looking(light.direction)))
    UsdLux.DomeLight.Define(stage, "/World/sky").CreateIntensityAttr(700.0)
    UsdGeom.Xform.Define(stage, SURROUNDINGS)
    for shape in description.surroundings:
        _shape(stage, f"{SURROUNDINGS}/{shape.name}", shape)
    for body in description.things:
        _body(stage, f"{THINGS}/{body.name}", body, body.pose)
    _robot(stage, description)
    for camera in description.cameras:
        _camera(stage, f"{CAMERAS}/{camera.name}", camera, width, height, description)
    for body in description.robot:
        for camera in body.cameras:
            _camera(stage, f"{ROBOT}/{body.name}/{camera.name}", camera, width, height, description)
    return stage


def camera_paths(description: Description) -> dict[str, str]:
    """Camera -> its prim."""
    fixed = {camera.name: f"{CAMERAS}/{camera.name}" for camera in description.cameras}
    return fixed | {c.name: f"{ROBOT}/{b.name}/{c.name}" for b in description.robot for c in b.cameras}


def _robot(stage: Any, description: Description) -> None:
    from pxr import Gf, Sdf, UsdGeom, UsdPhysics

    root = UsdGeom.Xform.Define(stage, ROBOT)
    UsdPhysics.ArticulationRootAPI.Apply(root.GetPrim())
    own = root.GetPrim().CreateAttribute("physxArticulation:enabledSelfCollisions", Sdf.ValueTypeNames.Bool)
    own.Set(False)
    servos = {servo.joint: servo for servo in description.servos}
    poses: dict[str, Pose] = {}
    for body in description.robot:
        above = poses.get(body.parent, Pose(np.zeros(3), np.eye(3)))
        pose = Pose(above.xyz + above.rotation @ body.pose.xyz, above.rotation @ body.pose.rotation)
        poses[body.name] = pose
        _body(stage, f"{ROBOT}/{body.name}", body, pose)
        name = body.joint.name if body.joint is not None else f"{body.name}_mount"
        path = f"{ROBOT}/joints/{name}"
        kinds = {"revolute": UsdPhysics.RevoluteJoint, "continuous": UsdPhysics.RevoluteJoint,
                 "prismatic": UsdPhysics.PrismaticJoint}  # fmt: skip
        kind = UsdPhysics.FixedJoint if body.joint is None else kinds[body.joint.kind]
        joint = kind.Define(stage, path)
        if body.parent:
            joint.CreateBody0Rel().SetTargets([f"{ROBOT}/{body.parent}"])
        joint.CreateBody1Rel().SetTargets([f"{ROBOT}/{body.name}"])
        turn = np.eye(3) if body.joint is None else _axis_to_z(body.joint.axis)
        joint.CreateLocalPos0Attr(Gf.Vec3f(*map(float, body.pose.xyz)))
        joint.CreateLocalRot0Attr(_quat(body.pose.rotation @ turn))
        joint.CreateLocalPos1Attr(Gf.Vec3f(0, 0, 0))
        joint.CreateLocalRot1Attr(_quat(turn))
        if body.joint is not None:
            _drive(joint, body.joint, servos.get(name))


def _drive(joint: Any, described: Joint, servo: Servo | None) -> None:
    from pxr import Sdf, UsdPhysics

    joint.CreateAxisAttr("Z")
    slides = described.kind == "prismatic"
    unit = 1.0 if slides else float(np.degrees(1.0))  # USD's per ours
    if described.kind != "continuous":
        joint.CreateLowerLimitAttr(described.lower * unit)
        joint.CreateUpperLimitAttr(described.upper * unit)
    kind = "linear" if slides else "angular"
    if servo is not None:
        drive = UsdPhysics.DriveAPI.Apply(joint.GetPrim(), kind)
        drive.CreateTypeAttr("force")
        drive.CreateStiffnessAttr(servo.stiffness / unit)
        drive.CreateDampingAttr((servo.damping + described.damping) / unit)
        drive.CreateMaxForceAttr(servo.effort)
        drive.CreateTargetPositionAttr(described.home * unit)
    state = joint.GetPrim()
    state.AddAppliedSchema(f"PhysicsJointStateAPI:{kind}")
    state.CreateAttribute(f"state:{kind}:physics:position", Sdf.ValueTypeNames.Float).Set(described.home * unit)


def _body(stage: Any, path: str, body: Body, pose: Pose) -> None:
    from pxr import Gf, Sdf, UsdGeom, UsdPhysics

    link = UsdGeom.Xform.Define(stage, path)
    _place(link, pose)
    prim = link.GetPrim()
    UsdPhysics.RigidBodyAPI.Apply(prim)
    mass = UsdPhysics.MassAPI.Apply(prim)
    mass.CreateMassAttr(body.mass)
    mass.CreateCenterOfMassAttr(Gf.Vec3f(*map(float, body.com)))
    moments, axes = np.linalg.eigh(body.inertia)
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    mass.CreateDiagonalInertiaAttr(Gf.Vec3f(*map(float, moments)))
    mass.CreatePrincipalAxesAttr(_quat(axes))
    if body.weightless:
        prim.AddAppliedSchema("PhysxRigidBodyAPI")
        prim.CreateAttribute("physxRigidBody:disableGravity", Sdf.ValueTypeNames.Bool).Set(True)
    for shape in body.shapes:
        _shape(stage, f"{path}/{shape.name}", shape)


def _shape(stage: Any, path: str, shape: Shape) -> None:
    from pxr import Gf, UsdGeom, UsdPhysics, UsdShade

    scale = np.ones(3)
    if shape.kind == "box":
        made = UsdGeom.Cube.Define(stage, path)
        made.CreateSizeAttr(1.0)
        scale = np.array(shape.size)
    elif shape.kind == "plane":
        made = UsdGeom.Cube.Define(stage, path)  # a thin slab: planes are endless to PhysX
        made.CreateSizeAttr(1.0)
        scale = np.array([2 * shape.size[0], 2 * shape.size[1], 1e-3])
    elif shape.kind == "sphere":
        made = UsdGeom.Sphere.Define(stage, path)
    else:
        made = (UsdGeom.Capsule if shape.kind == "capsule" else UsdGeom.Cylinder).Define(stage, path)
        made.CreateAxisAttr("Z")
        made.CreateHeightAttr(shape.size[1])
    if shape.kind in ("sphere", "capsule", "cylinder"):
        made.CreateRadiusAttr(shape.size[0])
    _place(made, shape.pose, scale)
    made.CreateDisplayColorAttr([Gf.Vec3f(*shape.colour[:3])])
    if shape.solid:
        UsdPhysics.CollisionAPI.Apply(made.GetPrim())
        material = UsdShade.Material.Define(stage, f"{path}/friction")
        surface = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
        surface.CreateStaticFrictionAttr(shape.friction)
        surface.CreateDynamicFrictionAttr(shape.friction)
        binding = UsdShade.MaterialBindingAPI.Apply(made.GetPrim())
        binding.Bind(material, UsdShade.Tokens.weakerThanDescendants, "physics")


def _camera(stage: Any, path: str, camera: Camera, width: int, height: int, description: Description) -> None:
    from pxr import Gf, UsdGeom

    made = UsdGeom.Camera.Define(stage, path)
    _place(made, Pose(camera.pose.xyz, camera.pose.rotation @ _DESCRIBED_FROM_USD))
    tall = _APERTURE * height / width
    made.CreateHorizontalApertureAttr(_APERTURE)
    made.CreateVerticalApertureAttr(tall)
    made.CreateFocalLengthAttr(float(0.5 * tall / np.tan(camera.fovy / 2)))
    made.CreateClippingRangeAttr(Gf.Vec2f(description.near_m, description.far_m))


def _place(made: Any, pose: Pose, scale: np.ndarray | None = None) -> None:
    from pxr import Gf, UsdGeom

    made.AddTranslateOp().Set(Gf.Vec3d(*map(float, pose.xyz)))
    made.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(_quat(pose.rotation)))
    if scale is not None:
        made.AddScaleOp().Set(Gf.Vec3f(*map(float, scale)))


def _quat(rotation: np.ndarray) -> Any:
    from pxr import Gf
    from scipy.spatial.transform import Rotation

    x, y, z, w = (float(v) for v in Rotation.from_matrix(rotation).as_quat())
    return Gf.Quatf(w, x, y, z)


def _axis_to_z(axis: np.ndarray) -> np.ndarray:
    """A rotation (3, 3) whose third column is `axis`."""
    return _frame(axis / np.linalg.norm(axis))


def _looking(direction: np.ndarray) -> np.ndarray:
    """A rotation whose -z is `direction`, as lights shine."""
    return _frame(-direction / np.linalg.norm(direction))


def _frame(z: np.ndarray) -> np.ndarray:
    helper = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)
