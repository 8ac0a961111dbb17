"""Reads a robot's description, URDF or MJCF, as joints that move and frames that hang on them. No meshes, no masses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.errors import missing_package
from difftop_ros.space.errors import RobotModelError

BASE = -1  # stands for the base frame where a joint is asked for


@dataclass(frozen=True)
class Joint:
    """A hinge or a slide: of the pose (4, 4) it has at 0 in its parent, and the unit axis it turns about or goes along.

    parent: index of the joint it hangs on, or BASE. zero: its position [rad | m] where the description draws it at 0.
    follows: name, ratio and offset of the joint it copies ('' for none).
    """

    name: str
    parent: int
    pose: np.ndarray
    axis: np.ndarray
    slides: bool
    zero: float = 0.0
    follows: tuple[str, float, float] = ("", 0.0, 0.0)


@dataclass
class Description:
    """joints: parents before children. frames: name -> (the joint it hangs on or BASE, its constant pose (4, 4))."""

    joints: list[Joint] = field(default_factory=list)
    frames: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)


def read_description(path: Path) -> Description:
    """Joints and frames of the file. Raises RobotModelError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RobotModelError(f"robot description {str(path)!r} cannot be read: {error}") from None
    if "<robot" in text:
        read = _urdf
    elif "<mujoco" in text:
        read = _mjcf
    else:
        raise RobotModelError(f"{path} is neither URDF (<robot>) nor MJCF (<mujoco>); xacro must be expanded first")
    try:
        return read(path)
    except RobotModelError:
        raise
    except ModuleNotFoundError as error:
        raise missing_package(error) from None
    except (ElementTree.ParseError, ValueError, KeyError, AttributeError) as error:
        what = " ".join(str(error).split())[:200]
        raise RobotModelError(f"{path} cannot be read as a robot: {type(error).__name__}: {what}") from None


def pose_of(place: np.ndarray, turn: Rotation | None = None) -> np.ndarray:
    """(4, 4) of a place (3,) and a rotation."""
    pose = np.eye(4)
    pose[:3, 3] = place
    if turn is not None:
        pose[:3, :3] = turn.as_matrix()
    return pose


def _numbers(element: ElementTree.Element | None, key: str, default: str) -> np.ndarray:
    text = default if element is None else element.get(key, default)
    values = np.array([float(part) for part in text.split()])
    if len(values) != 3 or not np.isfinite(values).all():
        raise ValueError(f"{key} is {text!r}; expected three numbers")
    return values


def _urdf(path: Path) -> Description:
    root = ElementTree.parse(path).getroot()
    links = [link.attrib["name"] for link in root.findall("link")]
    below: dict[str, list[ElementTree.Element]] = {}
    for joint in root.findall("joint"):
        below.setdefault(joint.find("parent").attrib["link"], []).append(joint)  # type: ignore[union-attr]
    children = {joint.find("child").attrib["link"] for joints in below.values() for joint in joints}  # type: ignore[union-attr]
    roots = [link for link in links if link not in children]
    if len(roots) != 1:
        raise RobotModelError(
            f"{path} has {len(roots)} links that hang on nothing, {roots[:5]}; expected one, the base"
        )
    found = Description()
    _hang(found, below, roots[0], BASE, np.eye(4))
    if len(found.frames) < len(links):
        raise RobotModelError(f"{path} has links in a circle or apart: {sorted(set(links) - set(found.frames))[:5]}")
    return found


def _hang(
    found: Description, below: dict[str, list[ElementTree.Element]], link: str, parent: int, pose: np.ndarray
) -> None:
    """Adds `link`, which stands at `pose` on the joint `parent`, and all that hangs on it."""
    if link in found.frames:
        raise ValueError(f"link '{link}' hangs on more than one joint, or in a circle")
    found.frames[link] = (parent, pose)
    for joint in below.get(link, ()):
        origin = joint.find("origin")
        turn = Rotation.from_euler("xyz", _numbers(origin, "rpy", "0 0 0"))
        here = pose @ pose_of(_numbers(origin, "xyz", "0 0 0"), turn)
        child, kind = joint.find("child").attrib["link"], joint.attrib["type"]  # type: ignore[union-attr]
        if kind not in ("revolute", "continuous", "prismatic"):  # fixed; floating and planar stay where they are drawn
            _hang(found, below, child, parent, here)
            continue
        axis = _numbers(joint.find("axis"), "xyz", "1 0 0")
        length = float(np.linalg.norm(axis))
        if length < 1e-6:
            raise ValueError(f"the axis of joint '{joint.attrib['name']}' has no length")
        mimic = joint.find("mimic")
        follows = ("", 0.0, 0.0)
        if mimic is not None:
            follows = (mimic.attrib["joint"], float(mimic.get("multiplier", 1)), float(mimic.get("offset", 0)))
        name = joint.attrib["name"]
        found.joints.append(Joint(name, parent, here, axis / length, kind == "prismatic", follows=follows))
        _hang(found, below, child, len(found.joints) - 1, np.eye(4))


def _mjcf(path: Path) -> Description:
    """By MuJoCo, which alone knows all of MJCF. Bodies and sites are frames; free and ball joints stay at rest."""
    import mujoco

    model = mujoco.MjModel.from_xml_path(str(path))
    kinds = mujoco.mjtJoint
    found = Description()
    hung: list[tuple[int, np.ndarray]] = [(BASE, np.eye(4))]
    found.frames[model.body(0).name] = hung[0]
    for body in range(1, model.nbody):
        parent, pose = hung[model.body_parentid[body]]
        pose = pose @ pose_of(model.body_pos[body], Rotation.from_quat(model.body_quat[body], scalar_first=True))
        for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
            kind = model.jnt_type[joint]
            if kind not in (kinds.mjJNT_HINGE, kinds.mjJNT_SLIDE):
                continue
            anchor = pose_of(model.jnt_pos[joint])
            zero = float(model.qpos0[model.jnt_qposadr[joint]])
            slides = bool(kind == kinds.mjJNT_SLIDE)
            found.joints.append(
                Joint(model.joint(joint).name, parent, pose @ anchor, model.jnt_axis[joint].copy(), slides, zero)
            )
            parent, pose = len(found.joints) - 1, np.linalg.inv(anchor)
        hung.append((parent, pose))
        found.frames[model.body(body).name] = (parent, pose)
    for site in range(model.nsite):
        parent, pose = hung[model.site_bodyid[site]]
        turn = Rotation.from_quat(model.site_quat[site], scalar_first=True)
        found.frames.setdefault(model.site(site).name, (parent, pose @ pose_of(model.site_pos[site], turn)))
    return found
