"""A double of controllers' actions over real DDS: FollowJointTrajectory moves a robot double, a gripper's goal waits.

Trajectories are followed and replaced as trajectory_controller.py does; a goal that another takes the place of is
aborted, as joint_trajectory_controller ends it. A gripper's goal is under way until it is cancelled.
"""

from __future__ import annotations

import time
from typing import Any

from trajectory_controller import TrajectoryController

from tools.faults.spinning import SpinningNode

ARM, GRIPPER = "/arm_controller/follow_joint_trajectory", "/gripper_controller/gripper_cmd"
PATH_TOLERANCE_VIOLATED = -4


class ActionController(SpinningNode):
    """Moves the first joint of `robot`. `refuse`: take no more goals; `give_up()`: abort the arm's present one."""

    def __init__(self, context: Any, robot: Any, gripper: str) -> None:
        from control_msgs import action
        from rclpy.action import ActionServer, CancelResponse, GoalResponse

        class Server(ActionServer):
            """Goals go on until `end`."""

            def notify_execute(self, goal_handle: Any, execute_callback: Any) -> None:
                pass

            def end(self, goal_handle: Any, how: str, result: Any) -> None:
                def close(handle: Any) -> Any:
                    getattr(handle, how)()
                    return result

                super().notify_execute(goal_handle, close)

        super().__init__(context, "controllers")
        self.robot, self.refuse = robot, False
        self.arm = TrajectoryController(["shoulder"], robot.position[:1], open_loop=False, keeps=False)
        self.goals: list[Any] = []
        self.gripper_goals: list[Any] = []
        self.cancelled: list[Any] = []
        self._kind, self._gripper_kind = action.FollowJointTrajectory, getattr(action, gripper)
        answers = {GoalResponse.ACCEPT: GoalResponse.ACCEPT, True: GoalResponse.REJECT, False: GoalResponse.ACCEPT}
        self._present: Any = None
        self._follow = Server(
            self.node, self._kind, ARM, lambda handle: None, goal_callback=lambda goal: answers[self.refuse],
            handle_accepted_callback=self._accept, cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )  # fmt: skip
        self._grip = Server(
            self.node, self._gripper_kind, GRIPPER, lambda handle: None, handle_accepted_callback=self._accept_gripper,
            cancel_callback=self._cancel_gripper,
        )  # fmt: skip
        self._accepting = CancelResponse.ACCEPT
        self.node.create_timer(0.01, self._move)
        self.spin()

    def _accept(self, handle: Any) -> None:
        handle.execute()
        before, self._present = self._present, handle
        if before is not None and before.is_active:
            self._follow.end(before, "abort", self._kind.Result(error_string="replaced by a later goal"))
        self.goals.append(handle.request)
        self.arm.receive(handle.request.trajectory, time.time(), self.robot.position[:1])

    def give_up(self) -> None:
        result = self._kind.Result(error_code=PATH_TOLERANCE_VIOLATED, error_string="the arm is blocked")
        self._follow.end(self._present, "abort", result)

    def _accept_gripper(self, handle: Any) -> None:
        handle.execute()
        self.gripper_goals.append(handle.request)

    def _cancel_gripper(self, handle: Any) -> Any:
        self.cancelled.append(handle.request)
        return self._accepting

    def _move(self) -> None:
        if self.goals:
            self.robot.position[0] = self.arm.sample(time.time())[0]
