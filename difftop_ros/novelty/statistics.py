"""What is measured of a raw frame: few numbers per aspect that see what an encoder is blind to. No scores here.

Encoders are trained to pass over what the demonstrations never varied, such as brightness or the order of coordinates,
so their features hardly move when just that goes wrong.
"""

from __future__ import annotations

import numpy as np

_SHARES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])  # of the points, for quantiles
_PAIRS = 16_384  # distances between points that are computed at most
_GRID = 4  # cells of a picture along each side
_PIXELS = 48  # of a picture's side that are looked at, about
_SAME_M = 1e-4  # points nearer than this are one and the same

FORETOLD = ("place", "brightness")  # aspects that joint positions foretell: where the arm is seen, by a camera


def aspects(kind: str, frame: np.ndarray) -> dict[str, np.ndarray]:
    """Aspect -> float64 (d,) of a frame: 'vector' (n,), 'cloud' (N, 3 | 6) xyz [m], colour 0..1, 'image' uint8, 'plan'.

    vector: values. cloud: place (mean of the upper half and quarter, where the arm is rather than what it handles),
    spread (mean and deviation of all), extent (smallest and largest), surface (distances to the nearest neighbour),
    colours. image (H, W, C), 2 x 2 at least: brightness and contrast on a grid of 4 x 4 cells, colours (of all of it,
    with the mean gradient). plan (1,): cost, of a solved plan.
    """
    return _ASPECTS[kind](frame)


def _vector(frame: np.ndarray) -> dict[str, np.ndarray]:
    return {"values": frame.astype(np.float64)}


def _cloud(frame: np.ndarray) -> dict[str, np.ndarray]:
    points = frame.astype(np.float64)
    count = len(points)
    ordered = np.sort(points, axis=0)
    mean, deviation = points.mean(0), points.std(0)
    xyz = points[np.argsort(points[:, 2]), :3]
    found = {
        "place": np.concatenate([xyz[count // 2 :].mean(0), xyz[count * 3 // 4 :].mean(0)]),
        "spread": np.concatenate([mean[:3], deviation[:3]]),
        "extent": ordered[[0, -1], :3].ravel(),
        "surface": _surface(points[:, :3]),
    }
    if points.shape[1] > 3:
        quantiles = ordered[np.rint(_SHARES * (count - 1)).astype(int), 3:]
        found["colours"] = np.concatenate([mean[3:], deviation[3:], quantiles.ravel()])
    return found


def _surface(xyz: np.ndarray) -> np.ndarray:
    """Of some points (N, 3), as many as time permits: median and 90 % quantile of the logarithm of the distance [m] to
    the nearest other, repeated ones apart. Points of a surface lie closer together than points that were mixed up.
    """
    chosen = xyz[:: -(-(len(xyz) ** 2) // _PAIRS)]
    squares = (chosen**2).sum(1)[:, None] - 2 * chosen @ xyz.T + (xyz**2).sum(1)
    squares[squares < _SAME_M**2] = np.inf  # itself, and what fills up a cloud of few points
    nearest = np.sqrt(squares.min(1))
    nearest[np.isinf(nearest)] = _SAME_M  # nothing else is there
    return np.log(np.quantile(nearest, [0.5, 0.9]))


def _image(frame: np.ndarray) -> dict[str, np.ndarray]:
    step = -(-min(frame.shape[:2]) // _PIXELS)
    picture = frame[::step, ::step].astype(np.float32) / np.float32(255)
    across = min(_GRID, *picture.shape[:2])
    rows, columns = (side // across for side in picture.shape[:2])
    cells = picture[: across * rows, : across * columns].reshape(across, rows, across, columns, -1)
    means = cells.mean((1, 3))
    contrast = np.sqrt(((cells**2).mean((1, 3)) - means**2).clip(0)).mean(2)
    grey = picture.mean(2)
    gradient = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    whole = np.concatenate([means.mean((0, 1)), picture.std((0, 1)), gradient])
    return {
        "brightness": means.ravel().astype(np.float64),
        "contrast": contrast.ravel().astype(np.float64),
        "colours": whole.astype(np.float64),
    }


def _plan(frame: np.ndarray) -> dict[str, np.ndarray]:
    return {"cost": frame.astype(np.float64)}


_ASPECTS = {"vector": _vector, "cloud": _cloud, "image": _image, "plan": _plan}
