"""Trains a policy and tells about it on /difftop/training_progress; ends when the training does.

    python -m difftop_ros.nodes.trainer.node --ros-args -p bags:=bags -p out:=models/mine
    python -m difftop_ros.nodes.trainer.node --ros-args -p env:=ros -p contract:=my_robot.yaml -p out:=models/mine

Lives here: the node, its service and its exit code. The work is that of learning/run.py, from bags, or where `env` is
given of learning/reinforcement, by trying; it is done in a thread of this process. Parameters are in parameters.py, the
robot that is tried over topics in robot.py. Started again with the same parameters it goes on where it was stopped.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from difftop_ros.errors import UserError, missing_package, of_the_disk
from difftop_ros.learning.progress import Progress, Report, Stopped
from difftop_ros.nodes.parameters import declare
from difftop_ros.nodes.process import named, run_node
from difftop_ros.nodes.trainer.parameters import ROBOT, job_from, parameters, trying_from

NODE_NAME = "difftop_trainer"
TOPIC = "difftop/training_progress"
PERIOD_S = 1.0  # between two messages while nothing special happens
FAREWELL_S = 2.0  # the last message is given this long to arrive


class Trainer:
    """One training on an rclpy node: `start()`, then spin the node and call `publish()` while `alive`, then `end()`.

    Raises UserError for a parameter of the wrong type or out of bounds.
    """

    def __init__(self, node: Any) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from std_srvs.srv import Trigger

        from difftop_ros.msg import TrainingProgress

        self.node = node
        self.values = declare(node, parameters())
        # whoever subscribes later sees where the run is at once
        qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = node.create_publisher(TrainingProgress, TOPIC, qos)
        node.create_service(Trigger, "~/stop", self._on_stop)
        self._asked = threading.Event()
        self._told: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._latest = Progress("ingest", 0, 0, "starting")
        self._next = 0.0
        self._exit_code = 1
        self._worker = threading.Thread(target=self._work, name="training", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the training goes on."""
        return self._worker.is_alive()

    def start(self) -> None:
        """Begin training in a thread."""
        self._worker.start()

    def stop(self) -> None:
        """Ask the training to end after the step in work, its checkpoint kept."""
        self._asked.set()

    def publish(self) -> None:
        """Send what happened since the last call, and once a second where the run is."""
        while not self._told.empty():
            progress = self._told.get()
            special = progress.message or progress.stage != self._latest.stage
            self._latest = progress
            if special:
                self._send(progress)
        if time.monotonic() >= self._next:
            self._send(self._latest)

    def end(self) -> int:
        """Send the last message and wait until it has arrived (not long); returns the exit code."""
        from rclpy.duration import Duration

        self._worker.join()
        self.publish()
        self._publisher.wait_for_all_acked(Duration(seconds=FAREWELL_S))
        out = sys.stdout if self._exit_code == 0 else sys.stderr
        print(f"{'' if self._exit_code == 0 else 'error: '}{self._latest.message}", file=out, flush=True)
        return self._exit_code

    def _send(self, progress: Progress) -> None:
        from rclpy.clock import Clock, ClockType

        from difftop_ros.msg import TrainingProgress

        self._next = time.monotonic() + PERIOD_S
        message = TrainingProgress(
            run=Path(self.values["out"]).name,
            stage=progress.stage,
            epoch=progress.epoch,
            step=progress.step,
            total_steps=progress.total_steps,
            metric_names=list(progress.metrics),
            metric_values=[float(value) for value in progress.metrics.values()],
            steps_per_second=progress.steps_per_second,
            eta_s=progress.eta_s,
            message=progress.message,
        )
        message.header.stamp = Clock(clock_type=ClockType.SYSTEM_TIME).now().to_msg()
        self._publisher.publish(message)

    def _on_stop(self, request: Any, response: Any) -> Any:
        self.stop()
        response.success = self.alive
        response.message = "stops after the step in work; the same parameters go on from there"
        return response

    def _work(self) -> None:
        last = self._latest

        def tell(progress: Progress) -> None:
            nonlocal last
            last = progress
            self._told.put(progress)
            if progress.message:
                where = f"{progress.stage} {progress.step}/{progress.total_steps}"
                self.node.get_logger().info(f"{where}: {progress.message}")

        try:
            try:
                # imported here: it takes seconds, in which the node already answers
                if self.values["env"]:
                    self._try(tell)
                else:
                    from difftop_ros.learning.run import run_training

                    run_training(job_from(self.values), tell, self._asked.is_set)
                self._exit_code = 0
                return
            except ModuleNotFoundError as error:
                raise missing_package(error) from error
        except Stopped as stopped:
            self._exit_code, stage, why = 0, "stopped", f"{stopped}; the same parameters go on from there"
        except UserError as error:
            self._exit_code, stage, why = 2, "failed", str(error)
        # whatever it was, subscribers and the exit code must tell that the training is over
        except Exception as error:
            why = of_the_disk(error) if isinstance(error, OSError) else ""
            self._exit_code, stage = 2 if why else 1, "failed"
            if not why:
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}"
        self._told.put(replace(last, stage=stage, message=why))

    def _try(self, tell: Report) -> None:
        """Learn by trying, in a simulated environment or the robot that this node's topics lead to."""
        from difftop_ros.learning.reinforcement.job import train_in_environment

        job, robot = trying_from(self.values), None
        if job.settings.env == ROBOT:
            from difftop_ros.contract import load_contract
            from difftop_ros.nodes.trainer.robot import TriedRobot

            contract = load_contract(job.contract)
            robot = TriedRobot(self.node, contract, self.values["reset"], job.settings.reward_from, self._asked.is_set)
        try:
            train_in_environment(
                job.settings, job.out, job.contract, job.device, job.fresh, tell, self._asked.is_set, job.bags,
                None if robot is None else robot.trial,
            )  # fmt: skip
        finally:
            if robot is not None:
                robot.close()


class TrainerProgram:
    """The process of a Trainer: runs until the training has ended. A signal stops it, a second one ends it at once."""

    def __init__(self, node: Any) -> None:
        self._trainer = Trainer(node)
        self._trainer.start()

    def turn(self, signals: int) -> bool:
        """See Program."""
        self._trainer.publish()
        if signals:
            self._trainer.stop()
        if signals > 1:
            print("error: ended at once; the last checkpoint is kept", file=sys.stderr, flush=True)
            os._exit(130)  # the thread cannot be ended otherwise
        return self._trainer.alive

    def end(self) -> int:
        """See Program."""
        return self._trainer.end()


def main(arguments: list[str] | None = None) -> int:
    """Runs the training. Exit code 0 when it is complete or was stopped, 2 for a user's mistake, 1 for other failures.

    SIGINT or SIGTERM stops it after the step in work; the second one ends the process at once (exit code 130).
    """
    return run_node(named(NODE_NAME), TrainerProgram, arguments)


if __name__ == "__main__":
    sys.exit(main())
