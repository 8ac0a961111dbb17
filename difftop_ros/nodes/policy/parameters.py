"""The policy node's parameters: one table that the node declares from and config/policy_node.yaml is written from.

`python -m difftop_ros.nodes.policy.parameters` prints that file; a test compares the two. What the parameters do is in
policy_node_lifecycle.py. No rclpy at import.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from dataclasses import dataclass
from typing import Any

from difftop_ros.errors import UserError

NODE_NAME = "difftop_policy"


@dataclass(frozen=True)
class Param:
    """One parameter. `low`, `high` bound a number, `choices` a string; a fixed one never changes."""

    name: str
    default: Any
    unit: str
    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False


PARAMS = (
    Param("model", "", "", "Folder of the trained policy (models/<name>).", fixed=True),
    Param("contract", "", "", "Robot contract YAML; empty: the copy that the policy carries.", fixed=True),
    Param(
        "device", "cpu", "", "Where the policy computes. 'cuda' without a GPU refuses to configure; 'auto' takes "
        "a GPU if there is one.", choices=("cpu", "cuda", "auto"), fixed=True,
    ),
    Param("torch_threads", 1, "threads", "CPU threads of one solve; leave cores for control and drivers.", 1, 64,
          fixed=True),
    Param("prepare_solve", "none", "", "Make the solve ready while configuring: 'compile' takes half a minute and "
          "a C++ compiler, 'cuda_graph' a GPU. Plans stay the same to rounding and take less time.",
          choices=("none", "compile", "cuda_graph", "compile+cuda_graph"), fixed=True),
    Param("planner_process", True, "", "Observe and solve in a process of their own, so that no large cloud or solve "
          "can make the control thread late; costs a copy of each message.", fixed=True),
    Param("realtime_priority", 10, "", "Real-time priority (SCHED_FIFO) of the node's own threads, where the system "
          "permits it, so that other programs cannot make the control thread late; 0: ordinary. The planner's "
          "process is never real-time.", 0, 90, fixed=True),
    Param("autostart", False, "", "Configure and activate without being asked, as soon as all streams are there.",
          fixed=True),
    Param("start_timeout_s", 60.0, "s", "autostart: give up (exit code 2) when not active so long after configuring.",
          0.1, 86400.0, fixed=True),
    Param("deadline_ms", 40.0, "ms", "Time a solve may take; it returns its best plan when time is up.", 1.0, 10000.0),
    Param("planner_rate_hz", 0.0, "Hz", "Most plans per second; 0: the contract's rate_hz.", 0.0, 1000.0),
    Param("sync_ms", 150.0, "ms", "Observe at the newest time for which every stream has delivered, at most this far "
          "back, so that pictures go with the joint positions of their own moment; 0: the newest of each.", 0.0,
          2000.0),
    Param("blend_ms", 100.0, "ms", "Time within which a new plan takes over from the one before.", 0.0, 5000.0),
    Param("lookahead_ms", 0.0, "ms", "Read the plan this far ahead, to make up for the delay of the robot.", 0.0,
          1000.0),
    Param("max_plan_age_ms", 500.0, "ms", "Gate: age of the observation behind a plan beyond which the robot holds.",
          10.0, 60000.0),
    Param("tracking_s", 0.5, "s", "Gate, position mode: a command may be ahead of the measured position by this time "
          "at the joint's velocity limit.", 0.02, 60.0),
    Param("resume_after_frames", 3, "plans", "Fresh accepted plans that end a hold.", 1, 1000),
    Param("max_failures", 5, "holds", "Holds within failure_window_s after which the node deactivates.", 1, 1000),
    Param("failure_window_s", 10.0, "s", "Window in which holds are counted.", 0.1, 3600.0),
    Param("report_rate_hz", 10.0, "Hz", "SolverStatus while no plan is made, and checks of the workers.", 1.0, 100.0,
          fixed=True),
)  # fmt: skip


def defaults() -> dict[str, Any]:
    """Name -> default value."""
    return {p.name: p.default for p in PARAMS}


def assignment(text: str) -> str:
    """`text` ('NAME:=VALUE' of a command line) as ROS wants it: whole numbers of a float parameter get a point.

    Raises UserError for another form and for a name that no parameter has, which ROS would pass over in silence.
    """
    name, separator, value = text.partition(":=")
    if not separator:
        raise UserError(f"parameter {text!r} is not of the form NAME:=VALUE, such as deadline_ms:=20.0")
    known = {p.name: p for p in PARAMS}
    if name not in known and name != "use_sim_time":
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        raise UserError(f"unknown parameter '{name}'; {hint}")
    whole = name in known and isinstance(known[name].default, float) and value.lstrip("+-").isdigit()
    return f"{name}:={value}.0" if whole else text


def descriptor(param: Param) -> Any:
    """The rcl_interfaces ParameterDescriptor of `param`."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    text = f"{param.text} [{param.unit}]" if param.unit else param.text
    result = ParameterDescriptor(name=param.name, description=text, read_only=param.fixed)
    if param.choices:
        result.additional_constraints = "one of " + ", ".join(param.choices)
    if param.low is not None and param.high is not None:
        if isinstance(param.default, float):
            result.floating_point_range = [FloatingPointRange(from_value=param.low, to_value=param.high, step=0.0)]
        else:
            result.integer_range = [IntegerRange(from_value=int(param.low), to_value=int(param.high), step=1)]
    return result


def render_yaml() -> str:
    """The text of config/policy_node.yaml."""
    lines = [
        "# Parameters of the policy node, each with its type, bounds, unit and meaning. Made from the table in",
        "# difftop_ros/nodes/policy/parameters.py by `python -m difftop_ros.nodes.policy.parameters`; a test compares.",
        "# 'fixed' ones are read when the node starts; the others when it is configured (not while it is active).",
        f"{NODE_NAME}:",
        "  ros__parameters:",
    ]
    for param in PARAMS:
        facts = [type(param.default).__name__.replace("str", "string")]
        if param.low is not None and param.high is not None:
            facts.append(f"{param.low:g}..{param.high:g}")
        facts += [f"unit {param.unit}"] * bool(param.unit)
        facts += ["one of " + ", ".join(param.choices)] * bool(param.choices) + ["fixed"] * param.fixed
        lines += textwrap.wrap(f"[{'; '.join(facts)}] {param.text}", 110, initial_indent="    # ",
                               subsequent_indent="    # ")  # fmt: skip
        lines.append(f"    {param.name}: {json.dumps(param.default)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render_yaml(), end="")
