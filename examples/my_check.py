"""A check of one's own in the command gate: together the joints may use no more than a share of their top speeds.

On the robot it is named in the policy node's parameter `checks`, after one's own package has offered it:

    [project.entry-points."difftop_ros.checks"]     (pyproject.toml of the package)
    calm = "my_package.my_check:Calm"

    difftop run --model models/panda_lift -p checks:="[finite, joint names, plan age, measurement, position, velocity,
        acceleration, jerk, tracking, calm]"
"""

import numpy as np

from difftop_ros.contract import Command
from difftop_ros.safety import CommandGate, GateSettings, LastCommand, MotionLimits, Proposal, make_checks


class Calm:
    """Mean of |speed| / top speed over the joints is at most `share`."""

    kind = "calm"

    def __init__(self, settings: GateSettings, share: float = 0.5) -> None:
        self.share = share

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        used = float(np.mean(np.abs(last.speed_of(proposal.values)) / last.limits.velocity))
        if proposal.holds or used <= self.share:  # a stop is never refused
            return ""
        return f"the joints use {used:.0%} of their top speeds together, {self.share:.0%} is allowed; plan slower"


def main() -> None:
    joints = [{"name": name, "position": [-2.0, 2.0], "velocity": 1.0} for name in ("shoulder", "elbow")]
    command = Command.model_validate(
        {"topic": "/c", "type": "sensor_msgs/msg/JointState", "mode": "velocity", "joints": joints}
    )
    settings = GateSettings(max_plan_age_ms=500.0, max_measured_age_ms=100.0, tracking_s=0.5)
    gate = CommandGate(MotionLimits.of(command, 50.0), [*make_checks(settings), Calm(settings)])
    for speeds in ([0.9, 0.0], [0.9, 0.9]):
        proposal = Proposal(["shoulder", "elbow"], np.array(speeds), 20.0, np.zeros(2), 5.0)
        verdict = gate.check(proposal)
        print(speeds, "passes" if verdict.ok else f"is refused by '{verdict.kind}': {verdict.reason}")


if __name__ == "__main__":
    main()
