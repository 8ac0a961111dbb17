"""How long a plan takes with costs added, beside the plan without them: the same observations, in turns.

    python -m benchmarks.costs_time --plans 200 --compile

The shipped lift policy, a cloud of 1,000 points of a post in its way, the robot's spheres, plans of 16 steps. One line
per part: median and 99 % quantile [ms] of the thread's CPU time, and its ratio to the policy's own solve. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from difftop_ros.costs.load import make_costs
from difftop_ros.costs.policy import WithCosts
from difftop_ros.policies import load_policy
from difftop_ros.sim.robot import SimulatedRobot

POINTS = 1000


def post(rng: np.random.Generator, x: float, y: float) -> np.ndarray:
    """POINTS points of a post of 2 cm and 30 cm height, float32 (n, 3) [m]."""
    angle = rng.uniform(0, 2 * np.pi, POINTS)
    height = rng.uniform(0.08, 0.3, POINTS)
    return np.stack([x + 0.02 * np.cos(angle), y + 0.02 * np.sin(angle), height], axis=1).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/panda_lift"))
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--iterations", type=int, help="of the second solve (default: the costs file's default)")
    parser.add_argument("--compile", action="store_true", help="both solves made ready with 'compile'")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_policy(args.model)
    options = {} if args.iterations is None else {"iterations": args.iterations}
    terms = {"seen": {"kind": "collision", "cloud": "cloud", "withhold": False}}
    acting = WithCosts(policy, make_costs({**options, "terms": terms}, policy.contract))
    if args.compile:
        begin = time.thread_time()
        acting.prepare("compile")
        print(f"prepared in {time.thread_time() - begin:.0f} s")
    robot = SimulatedRobot(policy.contract)
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = defaultdict(list)
    solved = 0
    (term,) = acting.second.collisions
    for index in range(args.plans + 5):
        if index % 20 == 0:
            robot.reset(index)
            plan = None
        obs = {key: frame[None] for key, frame in robot.observe().items()}
        position = np.array([obs[key][-1][row] for key, row in policy.contract.measured])
        begin = time.thread_time()
        plain = policy.act(obs, warm_start=plan)
        acted = time.thread_time()
        with torch.no_grad():
            tensors = {key: torch.as_tensor(frame)[None] for key, frame in obs.items()}
            origin, encoding = policy.net.scaler.origin(tensors), policy.net.encode(tensors)
            encoded = time.thread_time()
            policy.net.plan(encoding, origin)
            own = time.thread_time() - encoded
        tool = term.robot.pose(torch.tensor(plain.actions[8], dtype=torch.float32), "tcp")[:2, 3].tolist()
        cloud = post(rng, *tool)
        seeing = time.thread_time()
        term.see(cloud)
        seen = time.thread_time()
        with torch.no_grad():
            term.position = torch.tensor(position, dtype=torch.float32)
            found = acting.around(plain, plan, term.position)
            done = time.thread_time()
            start = torch.from_numpy(plain.actions).float()
            acting.second.solve_from(start, start[None], None, None)
            solved_once = time.thread_time()
        if index >= 5:
            solved += 1
            times["plan without costs"].append(acted - begin)
            times["  its solve"].append(own)
            times["field of the cloud"].append(seen - seeing)
            times["solve with collision"].append(solved_once - done)
            times["both solves"].append(solved_once - done + own)
            times["all that costs add"].append(done - seeing)
        robot.apply(plain.actions[0], 1 / policy.contract.rate_hz)
        plan = np.concatenate([found.actions[1:], found.actions[-1:]])
    robot.close()
    base = np.median(times["  its solve"])
    print(f"{solved} plans, {'compiled' if args.compile else 'not compiled'}, {len(term.robot.radii)} spheres")
    for name, values in times.items():
        p50, p99 = 1e3 * np.quantile(values, [0.5, 0.99])
        print(f"{name:24s} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   {np.median(values) / base:5.2f} times its solve")


if __name__ == "__main__":
    main()
