"""The shipped DDS profile at work: large best-effort messages between two processes, and no shared memory left over."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed in this environment")

from difftop_ros.nodes.shared_memory import SHM, clean_shared_memory, mapped_names

ROOT = Path(__file__).resolve().parents[2]

COMMON = """
import array, os, sys, time
from difftop_ros.nodes.environment import prepare
prepare(local_only=True)
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy, HistoryPolicy
from sensor_msgs.msg import Image, PointCloud2
kind, count = sys.argv[1], int(sys.argv[2])
Type, size, rate = {"image": (Image, 640 * 480 * 3, 30), "cloud": (PointCloud2, 300_000 * 16, 15)}[kind]
# Deep enough that a reader whom the machine's other work keeps waiting loses nothing by its own queue.
qos = QoSProfile(depth=max(1, count), reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST)
rclpy.init()
node = rclpy.create_node("burst_" + os.path.basename(sys.argv[0]).split(".")[0])
"""
PUBLISHER = (
    COMMON
    + """
publisher = node.create_publisher(Type, "burst", qos)
message = Type()
message.header.frame_id = "pilot"
seen = []
node.create_subscription(Image, "seen", seen.append, 1)
while not seen:  # both sides must have found each other, which only an answer shows
    publisher.publish(message)
    rclpy.spin_once(node, timeout_sec=0.05)
print("MATCHED", flush=True)
start = time.monotonic()
for number in range(count):
    data = array.array("B")
    data.frombytes(number.to_bytes(4, "little") * (size // 4))
    message.data = data
    message.header.frame_id = str(number)
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
    time.sleep(max(0.0, start + (number + 1) / rate - time.monotonic()))
print("SENT", count, flush=True)
end = node.create_publisher(Image, "end", 1)
while True:  # until the subscriber has ended: the sentinel that all that could arrive has arrived
    end.publish(Image())
    time.sleep(0.1)
"""
)
SUBSCRIBER = (
    COMMON
    + """
seen, wrong, ages, done = set(), 0, [], []
def on_message(message):
    global wrong
    if message.header.frame_id == "pilot":
        answer.publish(Image())
        return
    number = int(message.header.frame_id)
    stamp = message.header.stamp
    ages.append(time.time() - stamp.sec - stamp.nanosec * 1e-9)
    seen.add(number)
    data = memoryview(message.data)
    wrong += len(data) != size or bytes(data[-4:]) != number.to_bytes(4, "little")
answer = node.create_publisher(Image, "seen", 1)
node.create_subscription(Type, "burst", on_message, qos)
node.create_subscription(Image, "end", done.append, 1)
print("READY", flush=True)
while not done:
    rclpy.spin_once(node, timeout_sec=0.1)
ages.sort()
median = ages[len(ages) // 2] * 1e3 if ages else float("nan")
print(f"RECEIVED {len(seen)} WRONG {wrong} MEDIAN_MS {median:.2f} MAX_MS {max(ages, default=0) * 1e3:.2f}")
print("MISSING", sorted(set(range(count)) - seen), flush=True)
"""
)
HOLDER = """
publisher = node.create_publisher(Type, "held", qos)
print("READY", flush=True)
time.sleep(60)
"""


def burst(spawn: Any, tmp_path: Path, kind: str, count: int, env: dict[str, str]) -> tuple[int, int, float]:
    """(received, damaged, median age [ms]) of `count` best-effort messages between two processes."""
    env = {**env, "PYTHONPATH": str(ROOT)}
    paths = {}
    for name, text in (("publisher", PUBLISHER), ("subscriber", SUBSCRIBER)):
        paths[name] = tmp_path / f"{name}.py"
        paths[name].write_text(text)
    subscriber = spawn([sys.executable, str(paths["subscriber"]), kind, str(count)], env=env)
    subscriber.wait_for("READY")
    spawn([sys.executable, str(paths["publisher"]), kind, str(count)], env=env)
    assert subscriber.wait(60) == 0, subscriber.output()
    found = re.search(r"RECEIVED (\d+) WRONG (\d+) MEDIAN_MS (\S+)", subscriber.output())
    assert found, subscriber.output()
    return int(found[1]), int(found[2]), float(found[3])


@pytest.mark.parametrize(("kind", "count"), [("image", 90), ("cloud", 40)])
def test_every_large_best_effort_message_arrives(spawn: Any, tmp_path: Path, kind: str, count: int) -> None:
    """640x480 RGB images at 30 Hz and 300,000-point clouds at 15 Hz."""
    received, damaged, median = burst(spawn, tmp_path, kind, count, {})
    print(f"{kind}: {received}/{count}, median {median} ms")
    assert (received, damaged) == (count, 0), (tmp_path / "process_0.log").read_text()


def test_killed_process_leaves_segments_that_are_removed_and_living_ones_stay(spawn: Any, tmp_path: Path) -> None:
    script = tmp_path / "holder.py"
    script.write_text(COMMON + HOLDER)
    holders = [spawn([sys.executable, str(script), "image", "0"], env={"PYTHONPATH": str(ROOT)}) for _ in range(2)]
    for holder in holders:
        holder.wait_for("READY")
    killed, living = holders
    names = {p.pid: mapped_names(pid=p.pid) for p in holders}
    segments = {pid: {n for n in found if re.fullmatch(r"fastrtps_[0-9a-f]{16}", n)} for pid, found in names.items()}
    own = segments[killed.pid] - segments[living.pid]
    assert own and segments[living.pid]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert all((SHM / name).exists() for name in own - segments[living.pid])
    removed = clean_shared_memory()
    assert not any((SHM / f"{name}{suffix}").exists() for name in own for suffix in ("", "_el")), removed
    assert all((SHM / name).exists() for name in segments[living.pid] - own)


@pytest.mark.parametrize("orderly", [True, False])
def test_the_end_of_difftop_run_removes_what_killed_processes_left(orderly: bool, spawn: Any, tmp_path: Path) -> None:
    holder, program = tmp_path / "holder.py", tmp_path / "run.py"
    holder.write_text(COMMON + HOLDER)
    program.write_text(
        "import sys\nfrom difftop_ros.cli import main\n"
        "if __name__ == '__main__':\n    sys.exit(main(['run', *sys.argv[1:]]))\n"
    )
    killed = spawn([sys.executable, str(holder), "image", "0"], env={"PYTHONPATH": str(ROOT)})
    killed.wait_for("READY")
    left = {name for name in mapped_names(pid=killed.pid) if re.fullmatch(r"fastrtps_[0-9a-f]{16}", name)}
    assert left
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    # in a domain of its own, so that the living have not mapped what the dead one had
    env = {"PYTHONPATH": str(ROOT), "ROS_DOMAIN_ID": str(int(os.environ["ROS_DOMAIN_ID"]) % 100 + 1)}
    words = ("--model", str(ROOT / "models/panda_lift"), "--wait", "0.5" if orderly else "60")
    process = spawn([sys.executable, str(program)], *words, env=env)
    if not orderly:
        process.wait_for("waiting: ", 60)
        process.interrupt(30)
    assert process.wait(60) == (2 if orderly else 0), process.output()
    assert not any((SHM / f"{name}{suffix}").exists() for name in left for suffix in ("", "_el"))


def test_clean_ends_nothing_and_survives_a_missing_folder(tmp_path: Path) -> None:
    assert clean_shared_memory(tmp_path / "nowhere") == []
    (tmp_path / "fastrtps_0123456789abcdef").write_bytes(b"x")  # without a lock file: maybe just being created
    (tmp_path / "someone_else").write_bytes(b"x")
    assert clean_shared_memory(tmp_path) == []
    (tmp_path / "fastrtps_0123456789abcdef_el").touch()
    port = tmp_path / "fastrtps_port7411"  # what a sender leaves behind whose receiver ended first: no lock file
    port.write_bytes(b"x")
    os.utime(port, (time.time() - 60, time.time() - 60))
    assert clean_shared_memory(tmp_path) == ["fastrtps_0123456789abcdef", "fastrtps_port7411"]
    assert [p.name for p in tmp_path.iterdir()] == ["someone_else"]
