"""The trainer node as a process of its own, heard over DDS: progress, stop, going on, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from difftop_ros.paths import share_path
from tools.patience import patience

NODE = "difftop_ros.nodes.trainer.node"
SMALL = {"horizon": 4, "batch": 8, "threads": 1, "checkpoint_every": 4000, "eval_episodes": 0}


class Listener:
    """Hears the progress topic and calls the stop service, spinning in the test's own thread."""

    def __init__(self, context: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.node = rclpy.create_node("listener", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.heard: list[Any] = []
        self.subscribe(self.heard)

    def subscribe(self, into: list[Any]) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from difftop_ros.msg import TrainingProgress

        qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(TrainingProgress, "/difftop/training_progress", into.append, qos)

    def until(self, condition: Callable[[], Any], process: Any, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + patience(timeout)
        while not condition():
            assert time.monotonic() < deadline, f"nothing came; the node wrote:\n{process.output()}"
            self._executor.spin_once(timeout_sec=0.1)

    def stages(self) -> list[str]:
        return list(dict.fromkeys(message.stage for message in self.heard))

    def steps(self) -> int:
        return max((m.step for m in self.heard if m.stage == "train"), default=0)

    def stop(self, process: Any) -> Any:
        from std_srvs.srv import Trigger

        client = self.node.create_client(Trigger, "/difftop_trainer/stop")
        self.until(client.service_is_ready, process)
        future = client.call_async(Trigger.Request())
        self.until(future.done, process)
        return future.result()

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


def sent_at(message: Any) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


@pytest.fixture
def listener(ros_context: object) -> Iterator[Listener]:
    heard = Listener(ros_context)
    yield heard
    heard.close()


@pytest.fixture
def trainer(arm: Any, spawn: Any, tmp_path: Path) -> Any:
    """Starts the node on the recorded demonstrations: trainer(steps=30) -> process. Settings of `SMALL` apply.

    entry: code that runs the node, in place of its module.
    """

    def start(entry: str = "", **settings: Any) -> Any:
        given = {"bags": arm.bags, "contract": arm.contract, "out": tmp_path / "model", "dataset": tmp_path / "dataset"}
        given |= {**SMALL, **settings}
        words = [("-p", f"{name}:={value}") for name, value in given.items()]
        target = [sys.executable, "-c", entry] if entry else NODE
        return spawn(target, "--ros-args", *(word for pair in words for word in pair))

    return start


FULL = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY));"
    f"from {NODE} import main; sys.exit(main())"
)


def test_a_full_disk_is_told_in_a_sentence(trainer: Any, listener: Listener) -> None:
    process = trainer(FULL, steps=20)
    listener.until(lambda: "failed" in listener.stages(), process)
    assert "cannot write" in listener.heard[-1].message
    assert "the same command goes on" in listener.heard[-1].message
    assert process.wait(30) == 2
    assert "Traceback" not in process.output()


def test_progress_is_heard_the_service_stops_it_and_it_goes_on(
    trainer: Any, listener: Listener, tmp_path: Path
) -> None:
    first = trainer(steps=4000)
    listener.until(lambda: listener.steps() >= 2, first)
    times = len(listener.heard)
    listener.until(lambda: len(listener.heard) >= times + 3, first)
    sent = [sent_at(message) for message in listener.heard[times - 1 :]]
    assert all(0.9 < gap < 5 for gap in np.diff(sent)), sent
    message = listener.heard[-1]
    assert message.run == "model" and message.total_steps == 4000 and message.eta_s > 0 and message.steps_per_second > 0
    figures = dict(zip(message.metric_names, message.metric_values, strict=True))
    assert figures["train/plan_mse"] > 0
    late: list[Any] = []
    begun = time.time()
    listener.subscribe(late)
    listener.until(lambda: late, first)
    assert sent_at(late[0]) < begun  # latched

    answer = listener.stop(first)
    assert answer.success and "go on from there" in answer.message
    assert first.wait(30) == 0
    listener.until(lambda: "stopped" in listener.stages(), first)
    assert listener.stages() == ["ingest", "train", "stopped"]
    stopped = listener.heard[-1]
    assert f"stopped after step {stopped.step} of 4000" in stopped.message and stopped.message in first.output()
    (kept,) = (tmp_path / "model/checkpoints").glob("*.ckpt")
    done = int(kept.stem.split("=")[1])

    listener.heard.clear()
    second = trainer(steps=done + 3)
    listener.until(lambda: "done" in listener.stages(), second)
    assert second.wait(30) == 0
    assert f"train {done}/{done + 3}: going on from step {done}" in second.output()
    assert (tmp_path / "model/model.safetensors").is_file()
    card = (tmp_path / "model/README.md").read_text()
    assert f"{done + 3} of batch 8" in card and "ros2 run difftop_ros trainer_node --ros-args -p bags:=" in card


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(
    trainer: Any, listener: Listener, tmp_path: Path, number: Any
) -> None:
    process = trainer(steps=4000)
    listener.until(lambda: listener.steps() >= 1, process)
    os.kill(process.pid, number)
    assert process.wait(30) == 0
    assert "the same parameters go on from there" in process.output()
    assert len(list((tmp_path / "model/checkpoints").glob("step=*.ckpt"))) == 1


def test_what_cannot_be_ends_with_one_sentence(trainer: Any, spawn: Any, listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        (trainer(bags=f"[{tmp_path / 'empty'}]"), "no bag in"),
        (spawn(NODE, "--ros-args", "-p", "out:=x"), "no bags were given"),
        (trainer(lr=1), "parameter 'lr' is of another type"),
    ]
    for process, words in cases:
        assert process.wait(60) == 2
        errors = [line for line in process.output().splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and words in errors[0]
        assert "Traceback" not in process.output()


def test_the_parameter_file_states_every_parameter_and_its_default() -> None:
    from difftop_ros.nodes.trainer.parameters import parameters

    stated = yaml.safe_load(share_path("config/trainer_node.yaml").read_text())["/**"]["ros__parameters"]
    assert stated == {p.name: p.default for p in parameters()}
