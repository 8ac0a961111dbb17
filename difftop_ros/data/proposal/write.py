"""The proposed contract as YAML that loads, with a remark at each number that was guessed rather than read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from difftop_ros.contract import parse_contract
from difftop_ros.data.proposal.cameras import cameras
from difftop_ros.data.proposal.offer import COMMANDS, Moved, Shown
from difftop_ros.data.proposal.urdf import UrdfJoint, urdf_joints
from difftop_ros.errors import UserError
from difftop_ros.messages.commands import ARRAY, JOINT_STATE

LOOK = "look it over"
_SPARE = 0.1  # of what was seen, on both sides
_WHOLE_TURNS = 100.0  # [rad], of a joint that turns without end


@dataclass(frozen=True)
class _Command:
    topic: str
    kind: str
    joints: list[str]
    mode: str
    remark: str


def propose(shown: Shown, name: str, source: str, command: str = "") -> str:
    """YAML text of a contract. command: the topic to command on; '' chooses.

    Raises UserError when no joint state or no command is shown, or `command` is not there.
    """
    joints = urdf_joints(shown.description) if shown.description else {}
    chosen = _command(shown, command, joints)
    states, observed = _states(shown, chosen)
    rate, control = _rates(shown, chosen, states)
    lines = [
        f"# Proposed by 'difftop contract init' from {source}. What could not be read there says '{LOOK}'.",
        f"name: {re.sub(r'[^A-Za-z0-9_-]', '_', name)[:100]}",
        f"rate_hz: {rate:g}            # steps of the policy; {LOOK}",
        f"control_rate_hz: {control:g}",
        _clock(shown, states),
        "",
        "command:",
        f"  topic: {chosen.topic}",
        f"  type: {chosen.kind}",
        f"  mode: {chosen.mode}{chosen.remark}",
        "  joints:                # acceleration and jerk stand in no description: give them where the maker does",
        *(_limits(joint, joints.get(joint), shown.moved.get(joint, Moved())) for joint in chosen.joints),
        "",
        "observations:",
        "  joints:",
        "    kind: joint_state",
        f"    topic: {states}",
        f"    joints: [{', '.join(observed)}]",
        f"    max_age_ms: {_age_ms(shown, states):g}",
        *cameras(shown, rate),
        "",
        "episode:",
        f"  max_seconds: 60        # {LOOK}",
    ]
    text = "\n".join(lines) + "\n"
    parse_contract(text)
    return text


def _command(shown: Shown, wanted: str, joints: dict[str, UrdfJoint]) -> _Command:
    found = {t: k for t, k in shown.kinds.items() if k in COMMANDS and (k != JOINT_STATE or _is_command(shown, t))}
    if wanted and wanted not in found and shown.kinds.get(wanted) == JOINT_STATE:
        found[wanted] = JOINT_STATE
    if wanted and wanted not in found:
        raise UserError(f"--command is '{wanted}', which is no topic of commands there; there are {sorted(found)}")
    if not found:
        raise UserError(
            f"no topic of commands is there: none of type {list(COMMANDS[:2])}, and no JointState that a controller "
            "takes; start the controller, record its topic, or name it by --command"
        )
    named = {topic: names for topic in found if (names := _joints_of(shown, topic, found[topic], joints))}
    if wanted and wanted not in named:
        raise UserError(f"which joints '{wanted}' commands is not to be seen: start its controller and ask --live")
    if not named:
        raise UserError(
            f"which joints {sorted(found)} command is not to be seen; ask --live while their controllers run, or "
            "record commands, too"
        )
    topic = wanted or max(named, key=lambda t: (len(named[t]), -COMMANDS.index(found[t]), t))
    interfaces = shown.controllers.get(topic, {}).get("interfaces", [])
    mode = (
        "velocity" if "velocity" in interfaces and "position" not in interfaces else _mode(shown, topic, found[topic])
    )
    others = sorted(set(found) - {topic})
    order = found[topic] == ARRAY and topic not in shown.controllers
    remark = f"   # order of the joints is the joint states'; {LOOK}" if order else ""
    return _Command(
        topic, found[topic], named[topic], mode, remark + (f"   # there are {others}, too" if others else "")
    )


def _is_command(shown: Shown, topic: str) -> bool:
    """A JointState is a command where a name says so, or where somebody takes what nobody sends yet."""
    told = re.search(r"command|cmd|target|desired|goal", topic.rsplit("/", 2)[-1], re.IGNORECASE)
    return bool(told) or (topic in shown.taken and not shown.timings[topic].count)


def _joints_of(shown: Shown, topic: str, kind: str, joints: dict[str, UrdfJoint]) -> list[str]:
    told = shown.controllers.get(topic, {}).get("joints", [])
    sample = shown.samples.get(topic)
    if told:
        return list(told)
    if sample is not None and kind != ARRAY:
        return list(sample.name if kind == JOINT_STATE else sample.joint_names)
    measured = [n for n in _measured(shown) if not joints.get(n, _PLAIN).follows]
    if sample is not None and len(sample.data) != len(measured):
        return []
    return measured if sample is not None or kind != ARRAY else []


_PLAIN = UrdfJoint("rad", None, None, False, "")


def _measured(shown: Shown) -> list[str]:
    topics = [
        t for t, k in shown.kinds.items() if k == JOINT_STATE and t in shown.samples and not _is_command(shown, t)
    ]
    best = max(topics, key=lambda t: len(shown.samples[t].name), default="")
    return list(shown.samples[best].name) if best else []


def _mode(shown: Shown, topic: str, kind: str) -> str:
    sample = shown.samples.get(topic)
    if kind == ARRAY:
        return "velocity" if "velocit" in topic else "position"
    if sample is None:
        return "position"
    first = sample if kind == JOINT_STATE else next(iter(sample.points), None)
    positions, velocities = ("position", "velocity") if kind == JOINT_STATE else ("positions", "velocities")
    speeds_alone = first is not None and len(getattr(first, velocities)) and not len(getattr(first, positions))
    return "velocity" if speeds_alone else "position"


def _states(shown: Shown, command: _Command) -> tuple[str, list[str]]:
    topics = {
        t: list(shown.samples[t].name)
        for t, kind in shown.kinds.items()
        if kind == JOINT_STATE and t in shown.samples and t != command.topic
    }
    suited = {t: names for t, names in topics.items() if set(command.joints) <= set(names)}
    if not suited:
        raise UserError(
            f"no JointState names all of the commanded joints {command.joints}; there are {topics or 'none'}: start "
            "joint_state_broadcaster, or record its topic"
        )
    topic = max(suited, key=lambda t: (shown.timings[t].rate_hz, t))
    return topic, command.joints


def _rates(shown: Shown, command: _Command, states: str) -> tuple[float, float]:
    """Policy and control rates [Hz]: as commands were recorded, else as joint states come; whole numbers."""
    measured = shown.timings[command.topic].rate_hz or shown.timings[states].rate_hz
    control = float(min(max(round(measured), 10), 100))
    return min(20.0, control), control


def _age_ms(shown: Shown, topic: str) -> float:
    """Five periods, at least 100 ms."""
    rate = shown.timings[topic].rate_hz
    return float(max(100, round(5000 / rate, -1))) if rate else 200.0


def _clock(shown: Shown, states: str) -> str:
    timing = shown.timings[states]
    ages = timing.ages_ms()
    agree = bool(ages.size) and not timing.other_clock() and float(ages.min()) > -50
    told = "stamps agree with the time of reception" if agree else f"stamps are no times of here; {LOOK}"
    return f"clock: {'header' if agree else 'receive'}          # {told}"


def _limits(name: str, urdf: UrdfJoint | None, moved: Moved) -> str:
    """One line of command.joints."""
    joint = urdf or _PLAIN
    remarks: list[str] = []
    if joint.continuous:
        low, high = -_WHOLE_TURNS, _WHOLE_TURNS
    elif joint.position is not None:
        low, high = joint.position
    else:
        low, high = _widened(moved)
        remarks.append("position as far as it was seen")
    speed = joint.velocity
    if speed is None:
        speed = max(round(1.5 * moved.fastest, 3), 0.1)
        remarks.append("velocity by what was seen" if moved.fastest else "velocity unknown")
    parts = [f"name: {name}", f"unit: {joint.unit}", f"position: [{low:.6g}, {high:.6g}]", f"velocity: {speed:.6g}"]
    parts += ["continuous: true"] if joint.continuous else []
    return f"    - {{{', '.join(parts)}}}" + (f"   # {', '.join(remarks)}; {LOOK}" if remarks else "")


def _widened(moved: Moved) -> tuple[float, float]:
    if moved.highest <= moved.lowest or moved.highest == -float("inf"):
        middle = moved.lowest if abs(moved.lowest) != float("inf") else 0.0
        return middle - _SPARE, middle + _SPARE
    spare = _SPARE * (moved.highest - moved.lowest)
    return moved.lowest - spare, moved.highest + spare
