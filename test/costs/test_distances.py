"""Signed distances to known shapes and to what a camera saw: against plain geometry, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from difftop_ros.costs.field import Grid
from difftop_ros.costs.shapes import Shapes, box, cylinder


def brute(points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    return cKDTree(surface).query(points)[0]


def test_distance_to_a_turned_box_is_that_to_its_surface() -> None:
    rng = np.random.default_rng(0)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix()
    half = np.array([0.1, 0.2, 0.05])
    faces = rng.uniform(-1, 1, (200_000, 3))
    axis = rng.integers(0, 3, len(faces))
    faces[np.arange(len(faces)), axis] = np.sign(faces[np.arange(len(faces)), axis])
    surface = (faces * half) @ turn.T + [0.4, 0.0, 0.3]
    points = rng.uniform([0, -0.5, 0], [0.8, 0.5, 0.6], (300, 3))
    shapes = Shapes.none(boxes=2)
    shapes.boxes[0, 1] = box([0.4, 0.0, 0.3], half.tolist(), torch.tensor(turn, dtype=torch.float32))
    found = shapes.distance(torch.tensor(points, dtype=torch.float32)[None])[0].numpy()
    np.testing.assert_allclose(np.abs(found), brute(points, surface), atol=3e-3)
    inside = (np.abs((points - [0.4, 0.0, 0.3]) @ turn) < half).all(1)
    assert inside.any() and (found[inside] < 0).all() and (found[~inside] > 0).all()


def test_distance_to_a_cylinder_and_a_plane() -> None:
    shapes = Shapes.none()
    shapes.cylinders[0, 0] = cylinder([0, 0, 0.5], [0, 0, 2], 0.1, 0.5)
    points = torch.tensor([[[0.3, 0, 0.5], [0, 0, 1.2], [0, 0.05, 0.5], [0.4, 0, 1.4]]])
    expected = [0.2, 0.2, -0.05, 0.5]
    np.testing.assert_allclose(shapes.distance(points)[0].numpy(), expected, atol=1e-5)
    shapes.planes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.1])  # solid below 1.1 m
    assert abs(float(shapes.distance(points)[0, 3]) - 0.3) < 1e-5


def test_gradients_are_finite_everywhere() -> None:
    shapes = Shapes.none()
    shapes.boxes[0, 0] = box([0, 0, 0], [0.1, 0.1, 0.1])
    shapes.cylinders[0, 0] = cylinder([1, 0, 0], [0, 0, 1], 0.1, 0.1)
    points = torch.tensor([[[0.0, 0, 0], [0.1, 0.1, 0.1], [1, 0, 0], [1, 0, 0.1], [0.2, 0.2, 0.2]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(shapes.distance(points).sum(), points)
    assert torch.isfinite(gradient).all()


def test_the_field_is_the_true_distance_up_to_its_reach() -> None:
    rng = np.random.default_rng(2)
    grid = Grid.over([0, -0.4, 0], [0.8, 0.4, 0.6], 0.02)
    cloud = rng.uniform([0.3, -0.1, 0.1], [0.5, 0.1, 0.4], (800, 3))
    reach = 0.2
    field = torch.tensor(grid.field(np.vstack([cloud, [[np.nan, 0, 0], [50, 0, 0]]]), reach))[None]
    points = rng.uniform([0.02, -0.38, 0.02], [0.78, 0.38, 0.58], (500, 3))
    found = grid.lookup(field, torch.tensor(points, dtype=torch.float32)[None])[0].numpy()
    true = brute(points, cloud)
    assert np.abs(found - true.clip(max=reach)).max() < 0.02
    near = (true > 0.04) & (true < reach - 0.02 * np.sqrt(3))
    assert near.sum() > 50 and np.abs(found - true)[near].max() < 0.006


def test_an_empty_cloud_is_far_away_and_a_dense_one_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid.over([0, 0, 0], [1, 1, 1], 0.05)
    assert grid.field(np.empty((0, 3)), 0.5).min() == 0.5
    cloud = np.random.default_rng(3).uniform(0, 1, (100, 3))
    at_once = grid.field(cloud, 0.2)
    monkeypatch.setattr("difftop_ros.costs.field.AT_ONCE", 3000)
    np.testing.assert_array_equal(grid.field(cloud, 0.2), at_once)


def test_the_fields_gradient_points_away_from_the_obstacle() -> None:
    grid = Grid.over([0, 0, 0], [1, 1, 1], 0.02)
    field = torch.tensor(grid.field(np.full((1, 3), 0.5), 0.5))[None]
    points = torch.tensor([[[0.7, 0.5, 0.5], [0.5, 0.2, 0.5]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(grid.lookup(field, points).sum(), points)
    np.testing.assert_allclose(gradient[0, 0].numpy(), [1, 0, 0], atol=0.1)
    np.testing.assert_allclose(gradient[0, 1].numpy(), [0, -1, 0], atol=0.1)
