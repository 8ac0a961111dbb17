"""A sensor kind of your own: forces and torques from a WrenchStamped as six numbers for the policy.

Importing this module is enough to use `kind: wrench` in a contract. So that nodes find it, too, install your package
with an entry point that names this module:

    [project.entry-points."difftop_ros.observations"]
    wrench = "my_package.my_sensor"

Run it on a bag:  python examples/my_sensor.py CONTRACT.yaml BAG DATASET_FOLDER
"""

import sys
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from difftop_ros.contract import Observation, load_contract
from difftop_ros.data import EpisodeDataset, ingest
from difftop_ros.messages import ObservationError, register


class WrenchObs(Observation):
    """Force [N] then torque [N m], each divided by what counts as large: float32 (6,)."""

    kind: Literal["wrench"]
    type: Literal["geometry_msgs/msg/WrenchStamped"] = "geometry_msgs/msg/WrenchStamped"
    large_force_n: float = Field(default=50.0, gt=0)
    large_torque_nm: float = Field(default=5.0, gt=0)

    @property
    def shape(self) -> tuple[int, ...]:
        return (6,)


def decode(obs: WrenchObs, messages: Mapping[str, Any]) -> np.ndarray:
    """The frame of the newest message; messages are by topic."""
    wrench = messages[obs.topic].wrench
    force, torque = ([getattr(part, axis) for axis in "xyz"] for part in (wrench.force, wrench.torque))
    frame = np.concatenate([np.array(force) / obs.large_force_n, np.array(torque) / obs.large_torque_nm])
    if not np.isfinite(frame).all():
        raise ObservationError(f"wrench on '{obs.topic}' is {frame.tolist()}; expected numbers: check the sensor")
    return frame.astype(np.float32)


register("wrench", WrenchObs, decode)

if __name__ == "__main__":
    contract, bag, out = sys.argv[1:]
    print(*ingest([bag], load_contract(contract), out).notes(), sep="\n")
    episode = EpisodeDataset(out)[0]
    for key in load_contract(contract).observations:
        print(f"{key}: {episode[key].shape}, mean {np.asarray(episode[key][:]).mean(axis=0).round(3).tolist()}")
