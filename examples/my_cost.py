"""A cost of your own, added to a trained policy when it plans: the hand comes down below a height and stays there.

    python examples/my_cost.py --below 0.12

The policy was trained to lift a cube. Here its first plans of one episode are made twice, without and with the cost.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from difftop_ros.costs import RobotModel
from difftop_ros.paths import share_path
from difftop_ros.policies import load_policy
from difftop_ros.sim.robot import SimulatedRobot


class Below:
    """weight * how far [m] the point between the fingers is above `height` [m], squared, summed over the steps."""

    def __init__(self, robot: RobotModel, height: float, weight: float = 1e4) -> None:
        self.robot, self.data = robot, (torch.tensor(height), torch.tensor(weight))  # may change from plan to plan

    def __call__(self, commands: Tensor, height: Tensor, weight: Tensor) -> Tensor:
        above = self.robot.pose(commands, "tcp")[..., 2, 3] - height[:, None]
        return weight * above.clamp_min(0.0).square().sum(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--below", type=float, default=0.12, help="height [m] that the hand must not exceed")
    args = parser.parse_args()
    policy = load_policy(share_path("models/panda_lift"))
    joints = policy.contract.command.joint_names
    arm = RobotModel(share_path("models/panda_table/panda.xml"), joints, {"panda_gripper": {}})
    world = SimulatedRobot(policy.contract)
    world.reset(3)
    frames = {key: np.stack([frame] * policy.obs_steps) for key, frame in world.observe().items()}
    world.close()
    for name, terms in (("as trained", []), (f"below {args.below:g} m", [Below(arm, args.below)])):
        plan = policy.act(frames, terms=terms, iterations=30).actions
        heights = arm.pose(torch.tensor(plan, dtype=torch.float32), "tcp")[:, 2, 3]
        print(f"{name}: the hand's height over the plan {', '.join(f'{height:.3f}' for height in heights[::3])} m")


if __name__ == "__main__":
    main()
