"""Obstacles in the way of the demo arm: drawn from a seed, touched by the expert's way, possible to avoid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from difftop_ros.contract.shapes import AnyShape, Box, Cylinder
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.expert import Expert
from difftop_ros.sim.mujoco.ik import DampedLeastSquares, hand_down, rotation_error
from difftop_ros.sim.mujoco.obstacles import FAR_M, PREFIX, nearest_m, pose, robot_geoms, size
from difftop_ros.sim.mujoco.panda import PandaWorld
from difftop_ros.sim.placed import Course, Placed
from difftop_ros.sim.tasks import PANDA_HOME

LEAST_M, ROOMY_M = 0.02, 0.05  # an obstacle's distance from arm and cube at the start, at the goal and at the end
TOUCH_M, AROUND_M = 0.005, 0.01  # how deep the expert's way goes into it, and how far a way around it keeps away
_NOTICE_S = 0.6  # for so long what moves is clear of the expert, too
_DRAWS = 6000
_STRIDE = 3  # every so many of the expert's poses are looked at
_STEP_M, _ABOVE_M = 0.02, 0.09  # of ways around
_AROUND = [
    (x, y, z) for x in (0.0, -0.08, 0.08) for y in (0.0, 0.08, -0.08, 0.16, -0.16) for z in (0.0, 0.1, 0.2, -0.06)
]
_ROUGH: tuple[AnyShape, ...] = (
    Cylinder(kind="cylinder", centre=(0.0, 0.0, -9.0), radius=0.01, length=0.1),
    Box(kind="box", centre=(0.0, 0.0, -9.0), size=(0.1, 0.1, 0.1)),
)


@dataclass(frozen=True)
class _Way:
    """The expert's: poses (n, nq), their times (n,) [s], the tool's places (n, 3) [m], and which pose is the goal."""

    poses: np.ndarray
    times: np.ndarray
    places: np.ndarray
    goal: int


Drawing = Callable[[np.random.Generator, _Way], Placed]


class InTheWay:
    """Places obstacles in the way of `task`'s expert. The same kind and seed give the same obstacle.

    An obstacle is taken if the expert would go TOUCH_M into it, if it is LEAST_M from arm and cube at the start, at the
    goal and at the end, and if a way around it is found: one that leads the hand over a point beside the expert's way
    and keeps AROUND_M away, or, for one that moves, waiting at the start. Of many, the first with ROOMY_M at start,
    goal and end is taken, else the one with most.
    """

    def __init__(self, task: str = "lift") -> None:
        """Raises SimError for a task without an expert."""
        self._world = PandaWorld(task, obstacles=_ROUGH)
        self._expert = Expert(self._world)
        model = self._world.model
        self._arm, self._cube = robot_geoms(model), [int(model.geom("cube").id)]
        self._hinges = [int(model.joint(name).id) for name in PANDA_HOME]
        rest = np.array(list(PANDA_HOME.values()))
        self._ik = DampedLeastSquares(model, self._world.scene.tcp_site, self._hinges, rest)

    def find(self, kind: str, seed: int) -> Placed | None:
        """The obstacle for an episode's seed; None where none of many that were drawn is fair.

        Raises SimError for an unknown kind.
        """
        if kind not in KINDS:
            raise SimError(f"obstacle is {kind!r}; expected one of {list(KINDS)}")
        way = self._way(seed)
        if way is None:
            return None
        random = np.random.default_rng([seed, *kind.encode()])
        best, room = None, LEAST_M
        for _ in range(_DRAWS):
            placed = KINDS[kind](random, way)
            more = self._room(way, placed)
            if more > room and self._touched(way, placed) and self._avoidable(way, placed):
                best, room = placed, more
            if room >= ROOMY_M:
                break
        return best

    def _way(self, seed: int) -> _Way | None:
        """The expert's way to its success, None where it has none."""
        world = self._world
        world.reset(seed)
        rows = [(world.data.qpos.copy(), world.time, world.scene.tcp()[0])]
        while not world.success():
            if world.time > world.task.max_seconds:
                return None
            world.step(self._expert.act(), self._expert.step_s)
            rows.append((world.data.qpos.copy(), world.time, world.scene.tcp()[0]))
        poses, times, places = (np.array(column) for column in zip(*rows, strict=True))
        return _Way(poses, times, places, int(places[:, 2].argmin()))

    def _room(self, way: _Way, placed: Placed) -> float:
        """Its smallest distance [m] from arm and cube where there must be room; below LEAST_M roughly."""
        early = way.times <= (_NOTICE_S if placed.course else 0.0)
        room = self._clearance(way.poses[early], placed, way.times[early])
        last = [way.goal, len(way.poses) - 1]
        if room > LEAST_M:
            room = min(room, self._clearance(way.poses[last], placed, way.times[last], cube=True))
        return room

    def _touched(self, way: _Way, placed: Placed) -> bool:
        approach = slice(_STRIDE, way.goal, _STRIDE)
        return self._clearance(way.poses[approach], placed, way.times[approach]) < -TOUCH_M

    def _avoidable(self, way: _Way, placed: Placed) -> bool:
        if placed.course is not None:
            times = np.arange(0.0, placed.course.end_s, 0.05)
            waiting = np.repeat(way.poses[:1], len(times), axis=0)
            return self._clearance(waiting, placed, times, cube=True) > AROUND_M
        start, goal = way.places[0], way.places[way.goal]
        middle, above = (start + goal) / 2, goal + (0.0, 0.0, _ABOVE_M)
        return any(self._passes(way, placed, (middle + beside, above, goal)) for beside in _AROUND)

    def _passes(self, way: _Way, placed: Placed, points: Sequence[np.ndarray]) -> bool:
        """Whether the hand, pointing down, can go straight from point to point and the arm keeps away."""
        self._world.data.qpos[:] = way.poses[0]
        return all(self._clearance(joints[None], placed, np.zeros(1)) > AROUND_M for joints in self._follow(points))

    def _follow(self, points: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The arm's poses (nq,) along a line through `points` [m], from where it is."""
        world, model, data = self._world, self._world.model, self._world.data
        addresses = model.jnt_qposadr[self._hinges]
        for point in points:
            mujoco.mj_kinematics(model, data)
            count = int(np.ceil(np.linalg.norm(point - world.scene.tcp()[0]) / _STEP_M))
            for left in range(count, 0, -1):
                mujoco.mj_kinematics(model, data)
                mujoco.mj_comPos(model, data)
                place, turn = world.scene.tcp()
                twist = np.concatenate([(point - place) / left, rotation_error(hand_down(0.0), turn) / left])
                data.qpos[addresses] += self._ik.velocity(data, twist, rest_gain=0.0)
                yield data.qpos.copy()

    def _clearance(self, poses: np.ndarray, placed: Placed, times: np.ndarray, cube: bool = False) -> float:
        """Smallest distance [m] between arm (and cube) and obstacle over poses (n, nq) at times (n,) [s]."""
        model, data, kept = self._world.model, self._world.data, self._world.data.qpos.copy()
        body = model.body(f"{PREFIX}{[type(rough) for rough in _ROUGH].index(type(placed.shape))}")
        mocap, geom = int(body.mocapid[0]), int(body.geomadr[0])
        model.geom_size[geom] = size(placed.shape)
        place, data.mocap_quat[mocap] = pose(placed.shape)
        nearest = FAR_M
        for joints, time in zip(poses, times, strict=True):
            data.qpos[:] = joints
            data.mocap_pos[mocap] = place if placed.course is None else place + placed.course.offset(time)
            mujoco.mj_kinematics(model, data)
            nearest = min(nearest, nearest_m(model, data, [*self._arm, *self._cube] if cube else self._arm, geom))
        data.qpos[:] = kept
        return nearest


def _beside(random: np.random.Generator, way: _Way, spread: float = 0.06) -> np.ndarray:
    """A point (3,) [m] on the approach or some centimetres beside it, at its height."""
    place = way.places[random.integers(_STRIDE, max(way.goal - _STRIDE, _STRIDE + 1))]
    return place + random.normal(0.0, (spread, spread, 0.0))


def _box(centre: np.ndarray, edges: np.ndarray, name: str) -> Box:
    return Box.model_validate({"kind": "box", "name": name, "centre": centre.tolist(), "size": edges.tolist()})


def _cylinder(centre: Iterable[float], axis: Iterable[float], radius: float, length: float, name: str) -> Cylinder:
    return Cylinder(kind="cylinder", name=name, centre=tuple(map(float, centre)), axis=tuple(map(float, axis)),
                    radius=radius, length=length)  # type: ignore[arg-type]  # fmt: skip


def _post(random: np.random.Generator, way: _Way) -> Placed:
    """Stands on the table."""
    x, y, _ = _beside(random, way)
    length = random.uniform(0.12, 0.40)
    return Placed(shape=_cylinder((x, y, length / 2), (0, 0, 1), random.uniform(0.01, 0.02), length, "post"))


def _bar(random: np.random.Generator, way: _Way) -> Placed:
    """Hangs level in the air, in any direction."""
    centre, angle = _beside(random, way) + (0.0, 0.0, random.uniform(-0.03, 0.15)), random.uniform(0.0, np.pi)
    axis = (np.cos(angle), np.sin(angle), 0.0)
    return Placed(shape=_cylinder(centre, axis, random.uniform(0.01, 0.02), random.uniform(0.2, 0.4), "bar"))


def _block(random: np.random.Generator, way: _Way) -> Placed:
    """Stands on the table."""
    edges = random.uniform((0.02, 0.02, 0.06), (0.08, 0.08, 0.22))
    x, y, _ = _beside(random, way)
    return Placed(shape=_box(np.array([x, y, edges[2] / 2]), edges, "box"))


def _ceiling(random: np.random.Generator, way: _Way) -> Placed:
    """A plate above the approach, or partly beside it."""
    edges = random.uniform((0.12, 0.12, 0.02), (0.30, 0.30, 0.03))
    return Placed(
        shape=_box(_beside(random, way) + random.uniform((-0.2, -0.2, 0.05), (0.2, 0.2, 0.25)), edges, "ceiling")
    )


def _moving_post(random: np.random.Generator, way: _Way) -> Placed:
    """Stands on the table and crosses the approach once from side to side, where and when the expert comes by."""
    step = int(random.integers(way.goal // 3, max(way.goal - _STRIDE, way.goal // 3 + 1)))
    x, y, _ = way.places[step] + random.normal(0.0, (0.04, 0.04, 0.0))
    speed, length, meeting = random.uniform(0.15, 0.3), random.uniform(0.25, 0.40), float(way.times[step])
    velocity = (0.0, speed if random.random() < 0.5 else -speed, 0.0)
    start = y - velocity[1] * meeting
    post = _cylinder((x, start, length / 2), (0, 0, 1), random.uniform(0.02, 0.03), length, "moving post")
    return Placed(shape=post, course=Course(velocity=velocity, end_s=meeting + 0.3 / speed))


KINDS: dict[str, Drawing] = {
    "post": _post,
    "bar": _bar,
    "box": _block,
    "ceiling": _ceiling,
    "moving_post": _moving_post,
}
