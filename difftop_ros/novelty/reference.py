"""What is kept of training in one aspect: frames to measure distances to, and what joints foretell. No files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np

_KEPT = 512  # frames of training
_CANDIDATES = 4096  # of which they are chosen
_NEIGHBOURS = 5
_SHRINKAGE = 0.03  # of the correlation towards the identity
_NOISE = 2e-3  # [m | rad | share of full brightness] that no deviation is taken below: a sensor's own
_RIDGE = 1e-3
_LEADING = 12  # directions of the joint readings that foretell

T = TypeVar("T", "Reference", "Foretelling")


@dataclass(frozen=True)
class Reference:
    """mean, scale (d,) and whitening (d, d) of an aspect's values; frames (m, d) of training, whitened; unit (1,)."""

    mean: np.ndarray
    scale: np.ndarray
    whitening: np.ndarray
    frames: np.ndarray
    unit: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> Reference:
        """From values (N, d), with unit 1."""
        usual = _without_extremes(values)
        mean, scale = usual.mean(0), np.maximum(usual.std(0), _NOISE)
        standard = (usual - mean) / scale
        spread, axes = np.linalg.eigh(standard.T @ standard / len(values))
        whitening = axes / np.sqrt((1 - _SHRINKAGE) * spread.clip(0) + _SHRINKAGE)
        candidates = (((values - mean) / scale) @ whitening)[:: -(-len(values) // _CANDIDATES)]
        return Reference(mean, scale, whitening, candidates[_far_apart(candidates)], np.ones(1))

    @cached_property
    def _squares(self) -> np.ndarray:
        """(m,), of each frame's distance to the origin."""
        return (self.frames**2).sum(1)

    def distance(self, values: np.ndarray) -> np.ndarray:
        """Mean distance of values (B, d) to their nearest frames, (B,), in units of `unit`."""
        white = ((values - self.mean) / self.scale) @ self.whitening
        squares = (white**2).sum(1)[:, None] - 2 * white @ self.frames.T + self._squares
        count = min(_NEIGHBOURS, len(self.frames))
        nearest = np.partition(squares, count - 1, axis=1)[:, :count]
        return np.sqrt(nearest.clip(0)).mean(1) / self.unit


@dataclass(frozen=True)
class Foretelling:
    """An aspect's values from joint readings: ridge regression on their leading directions, squares and products.

    mean (n,), directions (n, k), weights (1 + k + k (k + 1) / 2, d)
    """

    mean: np.ndarray
    directions: np.ndarray
    weights: np.ndarray

    @staticmethod
    def of(readings: np.ndarray, values: np.ndarray) -> Foretelling:
        """From readings (N, n) and values (N, d) of the same frames."""
        values = _without_extremes(values)
        mean, scale = readings.mean(0), np.maximum(readings.std(0), _NOISE)
        standard = (readings - mean) / scale
        spread, axes = np.linalg.eigh(standard.T @ standard / len(readings))
        kept = np.argsort(spread)[::-1][:_LEADING]
        directions = axes[:, kept] / np.sqrt(spread[kept].clip(0) + _SHRINKAGE) / scale[:, None]
        terms = _products((readings - mean) @ directions)
        gram = terms.T @ terms / len(terms) + _RIDGE * np.eye(terms.shape[1])
        return Foretelling(mean, directions, np.linalg.solve(gram, terms.T @ values / len(terms)))

    def __call__(self, readings: np.ndarray) -> np.ndarray:
        """Values (B, d) that go with readings (B, n)."""
        return _products((readings - self.mean) @ self.directions) @ self.weights


def tensors_of(part: Reference | Foretelling, name: str) -> dict[str, np.ndarray]:
    """Its arrays as float32, under names that begin with `name`."""
    return {
        f"{name}.{field.name}": np.ascontiguousarray(getattr(part, field.name), np.float32) for field in fields(part)
    }


def from_tensors(kind: type[T], name: str, tensors: Mapping[str, np.ndarray]) -> T:
    """What `tensors_of` made. Raises KeyError for what is missing."""
    return kind(**{field.name: tensors[f"{name}.{field.name}"].astype(np.float64) for field in fields(kind)})


def _without_extremes(values: np.ndarray) -> np.ndarray:
    """values (N, d), each no farther out than 98 % are: one odd episode must not widen what is usual."""
    return np.clip(values, *np.quantile(values, [0.01, 0.99], axis=0))


def _products(directions: np.ndarray) -> np.ndarray:
    """1, each column of (B, k) and each product of two."""
    first, second = np.triu_indices(directions.shape[1])
    return np.concatenate([np.ones((len(directions), 1)), directions, directions[:, first] * directions[:, second]], 1)


def _far_apart(points: np.ndarray) -> np.ndarray:
    """Indices of up to `_KEPT` of points (N, d), each the farthest from those before (farthest-point sampling)."""
    chosen = [int(np.argmin(((points - points.mean(0)) ** 2).sum(1)))]
    squares = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(_KEPT, len(points)):
        chosen.append(int(squares.argmax()))
        squares = np.minimum(squares, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)
