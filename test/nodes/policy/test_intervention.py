"""A person takes over from the policy node by a flag, over real DDS, commands the robot, and gives it back."""

import time
from typing import Any

import numpy as np
from policy_process import activate_when_ready, positions, start


def test_the_node_is_silent_while_a_person_commands_and_takes_the_robot_back_where_it_stands(
    small_model: Any, robot: Any, spawn: Any
) -> None:
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Bool

    process = start(spawn, robot, small_model, "resume_after_frames:=1")
    flag = robot.node.create_publisher(Bool, "/difftop/intervention", 10)
    activate_when_ready(robot)
    robot.until(lambda: len(robot.commands) > 50, 20, "commands of the policy")

    flag.publish(Bool(data=True))
    robot.until(lambda: robot.statuses[-1].hold_reason.startswith("a person has taken over"), 10, "a hand-over")
    hand = robot.node.create_publisher(JointState, "/arm/command", 10)  # the person's, on the same topic
    robot.until(lambda: hand.get_subscription_count() > 0, 10, "the robot's subscription")
    quiet = time.monotonic() + 0.6  # the node has come to rest by then at the latest
    while time.monotonic() < quiet:
        time.sleep(0.05)
    sent = len(robot.commands)
    for share in np.linspace(0.0, 1.0, 40):
        goal = robot.position + share * (np.array([-0.5, 0.6]) - robot.position)
        hand.publish(JointState(name=["shoulder", "elbow"], position=list(goal)))
        time.sleep(0.02)
    # commands of the person alone: each is on the way that the person went
    robot.until(lambda: len(robot.commands) >= sent + 40, 10, "the person's commands")
    assert len(robot.commands) == sent + 40
    assert robot.statuses[-1].holding and robot.statuses[-1].state == "active"

    flag.publish(Bool(data=False))
    robot.says("others publish '/arm/command' too")  # the person must let go of the topic as well
    assert len(robot.commands) == sent + 40
    robot.node.destroy_publisher(hand)
    robot.until(lambda: len(robot.commands) > sent + 60, 20, "commands of the policy again")
    again = positions(robot)[sent + 39 :]
    np.testing.assert_allclose(again[0], [-0.5, 0.6], atol=1e-6)
    assert np.abs(np.diff(again, axis=0)).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(again, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6
    assert process.interrupt() == 0
