"""Joints that a driver calls otherwise: one of the contract's for several of its own, as a gripper for its fingers.

A coupling says for a joint of the contract which joints of the driver stand for it in messages, and how far each moves
per unit. Their positions and velocities are shares of the joint's; their efforts add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Coupling = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Readings:
    """What a JointState says, with the contract's joints beside the driver's."""

    name: list[str]
    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray


def read(message: Any, coupling: Coupling | None) -> Any:
    """A JointState as it is, or with coupling as Readings. A joint whose driver's are not all there is left out."""
    if not coupling:
        return message
    names = list(message.name)
    there = {
        joint: {names.index(part): share for part, share in parts.items()}
        for joint, parts in coupling.items()
        if set(parts) <= set(names)
    }

    def extended(field: str) -> np.ndarray:
        values = np.asarray(getattr(message, field), np.float64)
        if values.size != len(names):
            return values
        if field == "effort":
            more = [sum(share * values[i] for i, share in parts.items()) for parts in there.values()]
        else:
            more = [np.mean([values[i] / share for i, share in parts.items()]) for parts in there.values()]
        return np.concatenate([values, more])

    return Readings([*names, *there], extended("position"), extended("velocity"), extended("effort"))


def sent_names(names: Sequence[str], coupling: Coupling | None) -> list[str]:
    """The driver's joints (D,) that messages name for the contract's `names` (A,)."""
    return [part for name in names for part in (coupling or {}).get(name, {name: 1.0})]


def spread(names: Sequence[str], values: np.ndarray, coupling: Coupling | None, adds_up: bool = False) -> np.ndarray:
    """Values (..., A) of the contract's joints as the driver's (..., D); adds_up: they are efforts."""
    if not coupling:
        return values
    shares = [list(coupling.get(name, {name: 1.0}).values()) for name in names]
    if adds_up:
        shares = [[float(np.sign(share)) / sum(map(abs, of)) for share in of] for of in shares]
    parts = [(i, share) for i, of in enumerate(shares) for share in of]
    return values[..., [i for i, _ in parts]] * np.array([share for _, share in parts])


def gather(names: Sequence[str], values: np.ndarray, coupling: Coupling | None) -> np.ndarray:
    """Values (..., D) of the driver's joints as the contract's (..., A): the mean of what each of its parts says."""
    if not coupling:
        return values
    columns, at = [], 0
    for name in names:
        shares = list(coupling.get(name, {name: 1.0}).values())
        columns.append(np.mean(values[..., at : at + len(shares)] / np.array(shares), axis=-1))
        at += len(shares)
    return np.stack(columns, axis=-1)
