"""The collision term: zero when clear, a gradient that leads away, sees between steps, says where it is near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difftop_ros.costs.collision import Collision
from difftop_ros.costs.field import Grid
from difftop_ros.costs.kinematics import RobotModel, Spheres
from difftop_ros.costs.shapes import box, cylinder
from difftop_ros.trajopt import Problem, SolverOptions, solve

PLANE_ARM = """<robot name="cart"><link name="world"/><link name="x"/><link name="tip"/>
<joint name="x" type="prismatic"><parent link="world"/><child link="x"/><axis xyz="1 0 0"/>
<limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<joint name="y" type="prismatic"><parent link="x"/><child link="tip"/><axis xyz="0 1 0"/>
<limit lower="-2" upper="2" effort="1" velocity="1"/></joint></robot>"""


@pytest.fixture
def robot(tmp_path: Path) -> RobotModel:
    """A ball of 5 cm that two joints move in the plane: the commands are its place."""
    path = tmp_path / "cart.urdf"
    path.write_text(PLANE_ARM)
    return RobotModel(path, ["x", "y"], spheres=Spheres(("tip",), np.zeros((1, 3)), np.array([0.05])))


def straight(steps: int = 9) -> torch.Tensor:
    """From (-0.5, 0) to (0.5, 0), without the start, (1, H, 2)."""
    x = torch.linspace(-0.5, 0.5, steps + 1)[1:]
    return torch.stack([x, torch.zeros_like(x)], dim=1)[None]


def cost_of(term: Collision, commands: torch.Tensor) -> torch.Tensor:
    return term(commands, *(tensor[None] for tensor in term.data))


def test_a_clear_plan_costs_nothing_and_a_touching_one_is_named(robot: RobotModel) -> None:
    term = Collision(robot, margin=0.02)
    term.position = torch.tensor([-0.5, 0.0])
    term.shapes.boxes[0, 0] = box([0.0, 0.12, 0.0], [0.05, 0.04, 0.1])
    assert float(cost_of(term, straight())) == 0.0
    term.shapes.boxes[0, 0] = box([0.0, 0.08, 0.0], [0.05, 0.04, 0.1])
    assert float(cost_of(term, straight())) > 0.0
    nearest = term.clearance(straight()[0])
    assert nearest.distance == pytest.approx(-0.01, abs=1e-4) and nearest.link == "tip"
    assert abs(nearest.place[0]) <= 0.051 and nearest.step in (3, 4, 5)


def test_what_lies_between_two_steps_is_seen(robot: RobotModel) -> None:
    jump = torch.tensor([[[0.5, 0.0]]])
    shape = cylinder([0.0, 0.0, 0.0], [0, 0, 1], 0.05, 0.5)
    for between, sees in ((0, False), (1, True)):
        term = Collision(robot, between=between)
        term.position = torch.tensor([-0.5, 0.0])
        term.shapes.cylinders[0, 0] = shape
        assert (float(cost_of(term, jump)) > 0) is sees


@pytest.mark.parametrize("seen", [False, True], ids=["shape", "cloud"])
def test_a_solve_goes_round_what_is_in_the_way(robot: RobotModel, seen: bool) -> None:
    term = Collision(robot, margin=0.03, weight=5.0, grid=Grid.over([-0.6, -0.4, -0.2], [0.6, 0.4, 0.2], 0.01))
    term.position = torch.tensor([-0.5, 0.0])
    if seen:
        angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 60), np.linspace(-0.1, 0.1, 21))
        x, y = 0.05 * np.cos(angle), 0.02 + 0.05 * np.sin(angle)
        term.see(np.stack([x, y, height], axis=-1).reshape(-1, 3))
    else:
        term.shapes.cylinders[0, 0] = cylinder([0.0, 0.02, 0.0], [0, 0, 1], 0.05, 0.1)
    plan = straight(16)
    problem = Problem(
        lambda actions: -10 * actions.diff(n=2, dim=1).square().flatten(1).sum(1), (),
        torch.full((1, 1, 1), -1.0), torch.full((1, 1, 1), 1.0), reference=plan, proximal=0.5,
    ).adding(term, *(tensor[None] for tensor in term.data))  # fmt: skip
    found = solve(problem, plan, SolverOptions(iterations=60, adjoint="none")).actions[0]
    assert term.clearance(plan[0]).distance < -0.03
    assert term.clearance(found).distance > 0.0
    assert float(found[:, 1].abs().max()) > 0.08 and float((found[-1] - plan[0, -1]).norm()) < 0.05


def test_the_gradient_is_that_of_differences(robot: RobotModel) -> None:
    term = Collision(robot.to("cpu", torch.float64), margin=0.1)
    term.position = torch.tensor([-0.5, 0.0], dtype=torch.float64)
    term.shapes.boxes[0, 0] = box([0.0, 0.1, 0.0], [0.05, 0.04, 0.1])
    data = [tensor.double()[None] for tensor in term.data]
    assert torch.autograd.gradcheck(lambda a: term(a, *data), (straight().double().requires_grad_(),), atol=1e-5)


def test_numbers_that_cannot_be_are_refused(robot: RobotModel) -> None:
    with pytest.raises(ValueError, match="margin 0"):
        Collision(robot, margin=0.0)
    with pytest.raises(ValueError, match="no grid"):
        Collision(robot).see(np.zeros((3, 3)))
