"""The quickest stop of a joint under acceleration and jerk limits, in whole control ticks and in closed form.

Unit of time is the tick: a speed is the change of position per tick, an acceleration the change of speed per tick, and
`ramp` the largest change of acceleration per tick. Then the limits hold for differences of commands, exactly as the
gate takes them, at any control rate. All arrays broadcast. Choosing commands is shaper.py's job.
"""

from __future__ import annotations

import numpy as np

MOST_TICKS = 1000  # of a stop whose way is asked for


def ramp_out(size: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """Change of speed while an acceleration of `size` >= 0 is taken back by `ramp` each tick."""
    ticks = np.floor(size / ramp)
    return ticks * size - 0.5 * ramp * ticks * (ticks + 1)


def end_speed(speed: np.ndarray, acceleration: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """The speed that is reached when the acceleration is taken back at once."""
    return speed + np.copysign(ramp_out(np.abs(acceleration), ramp), acceleration)


def largest_change(speed: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """The largest acceleration >= 0 that can be used now and taken back from the next tick on within |speed| of change.

    Used for one tick and then ramped out it changes the speed by |speed| exactly.
    """
    size = np.abs(speed)
    ticks = np.floor(0.5 * (np.sqrt(1.0 + 8.0 * size / ramp) - 1.0))
    return (size + 0.5 * ramp * ticks * (ticks + 1)) / (ticks + 1)


def towards(error: np.ndarray, acceleration: np.ndarray, ramp: np.ndarray, top: np.ndarray) -> np.ndarray:
    """The next acceleration of the quickest change of speed by `error`, without going past it where that can be."""
    low, high = np.maximum(acceleration - ramp, -top), np.minimum(acceleration + ramp, top)
    return np.clip(np.copysign(largest_change(error, ramp), error), low, high)


def extent(
    speed: np.ndarray, acceleration: np.ndarray, ramp: np.ndarray, top: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the quickest stop (`towards` rest at every tick): where it ends, its lowest and its highest place from here.

    top: largest acceleration. A stop first takes back an acceleration that speeds up, then brakes at `ramp` per tick to
    -top, keeps that, and takes it back so that speed and acceleration end at zero together.
    """
    sign = np.where(end_speed(speed, acceleration, ramp) < 0, -1.0, 1.0)
    v, a = sign * speed, sign * acceleration
    # ticks of full ramp: until -top, or until the next would leave no time to take the braking back
    alpha = a / ramp
    guess = np.floor(alpha + np.sqrt(np.maximum(0.5 * alpha**2 + (v - 0.5 * a) / ramp, 0.0)) + 1e-9)
    guess = np.maximum(np.minimum(guess, np.floor((a + top) / ramp + 1e-9)), 0.0)
    for _ in range(2):  # the guess is at most one or two too high: it leaves out the fractions of ticks
        after = v + guess * a - 0.5 * ramp * guess * (guess + 1)
        braking = a - guess * ramp
        guess = np.where((guess > 0) & (end_speed(after, braking, ramp) < -1e-12 * top), guess - 1.0, guess)
    first = guess
    way = first * v + a * first * (first + 1) / 2 - ramp * first * (first + 1) * (first + 2) / 6
    v1, a1 = v + first * a - 0.5 * ramp * first * (first + 1), a - first * ramp
    kept = np.where(a1 - ramp <= -top, np.floor(np.maximum(v1 - ramp_out(top, ramp), 0.0) / top), 0.0)
    way = way + kept * v1 - top * kept * (kept + 1) / 2
    v2 = np.maximum(v1 - kept * top, 0.0)
    last = np.minimum(largest_change(v2, ramp), top)
    ticks, rest = np.floor(last / ramp), ramp_out(last, ramp)
    way = way + (1 + ticks) * rest - last * ticks * (ticks + 1) / 2 + ramp * ticks * (ticks + 1) * (ticks + 2) / 6
    # before it moves the way it will end, it may still move back: while k a - ramp k (k + 1) / 2 < -v
    root = np.sqrt(np.maximum((alpha - 0.5) ** 2 + 2.0 * v / ramp, 0.0))
    back = np.where(v < 0, np.maximum(np.ceil(alpha - 0.5 - root - 1e-9) - 1.0, 0.0), 0.0)
    dip = back * v + a * back * (back + 1) / 2 - ramp * back * (back + 1) * (back + 2) / 6
    low, high = np.minimum(np.minimum(dip, way), 0.0), np.maximum(way, 0.0)
    return sign * way, np.where(sign > 0, low, -high), np.where(sign > 0, high, -low)


def stopping_way(
    position: np.ndarray,
    speed: np.ndarray,
    acceleration: np.ndarray,
    dt: float,
    per_tick: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Positions (K, A) of the quickest stop, from `position` (A,) [unit] at speed and acceleration (A,) on.

    dt: tick [s]; per_tick: as MotionLimits.per_tick. Every third tick's position, and the last one's.
    """
    _, top, ramp = per_tick
    moved, change = speed * dt, acceleration * dt**2
    still = 1e-6 * np.maximum(per_tick[0], 1e-9)
    way = [position]
    for _ in range(MOST_TICKS):
        if (np.abs(moved) <= still).all():
            break
        change = towards(-moved, change, ramp, top)
        moved = moved + change
        way.append(way[-1] + moved)
    return np.array([*way[:-1:3], way[-1]])
