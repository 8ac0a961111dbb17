"""The policy node's parameters. What they do is in runtime/run.py, safety/ and node.py. No rclpy at import."""

from __future__ import annotations

from difftop_ros.nodes.parameters import Parameter
from difftop_ros.safety.checks import DEFAULT_CHECKS

NODE_NAME = "difftop_policy"
HEAD = (
    "Parameters of the policy node, each with its type, bounds, unit and meaning. All are read when the node is "
    "configured or activated; 'live' ones may be set after its start, while it is not active."
)

PARAMETERS = (
    Parameter("model", "", "Folder of the trained policy (models/<name>)."),
    Parameter("contract", "", "Robot contract YAML; empty: the copy that the policy carries."),
    Parameter("device", "cpu", "Where the policy computes. 'cuda' without a GPU refuses to configure; 'auto' takes a "
        "GPU if there is one.", choices=("cpu", "cuda", "auto")),
    Parameter("torch_threads", 1, "CPU threads of one solve; leave cores for control and drivers.", bounds=(1, 64),
        unit="threads"),
    Parameter("prepare_solve", "none", "Make the solve ready while configuring: 'compile' takes half a minute and a "
        "C++ compiler, 'cuda_graph' a GPU. Plans stay the same to rounding and take less time.",
        choices=("none", "compile", "cuda_graph", "compile+cuda_graph")),
    Parameter("costs", "", "File of costs added to every plan: what the policy keeps away from although it was never "
        "trained to (docs/how-to/add_costs.md); empty: none.", live=True),
    Parameter("cost_weights", [""], "Weights in place of the costs file's, as 'name=weight'; may be set while the node "
        "is active too, and counts from the next plan on.", live=True),
    Parameter("surroundings", "", "File of what the robot must not touch, whatever the policy: shapes and the points "
        "of a cloud; what would touch is not sent (docs/how-to/keep_clear.md); empty: nothing is known.", live=True),
    Parameter("planner_process", True, "Observe and solve in a process of their own, so that no large cloud or solve "
        "can make the control thread late; costs a copy of each message."),
    Parameter("realtime_priority", 10, "Real-time priority (SCHED_FIFO) of the node's own threads, where the system "
        "permits it, so that other programs cannot make the control thread late; 0: ordinary. The planner's process is "
        "never real-time.", bounds=(0, 90)),
    Parameter("autostart", False, "Configure and activate without being asked, as soon as all streams are there."),
    Parameter("resume_motion", False, "autostart: activate although the last run on this command topic was killed and "
        "left no safe command; false: stay inactive, say so, and wait to be activated."),
    Parameter("wait_for_task", False, "Hold once active, and after each task, until a goal of the action run_policy is "
        "accepted; false: move at once, such a goal then watches the run and can end it.", live=True),
    Parameter("start_timeout_s", 60.0, "autostart: give up (exit code 2) when not active so long after configuring.",
        bounds=(0.1, 86400.0), unit="s"),
    Parameter("deadline_ms", 40.0, "Time a solve may take; it returns its best plan when time is up.",
        bounds=(1.0, 10000.0), unit="ms", live=True),
    Parameter("planner_rate_hz", 0.0, "Most plans per second; 0: the contract's rate_hz.", bounds=(0.0, 1000.0),
        unit="Hz", live=True),
    Parameter("sync_ms", 150.0, "Observe at the newest time for which every stream has delivered, at most this far "
        "back, so that pictures go with the joint positions of their own moment; 0: the newest of each.",
        bounds=(0.0, 2000.0), unit="ms", live=True),
    Parameter("max_ahead_ms", 50.0, "Hold while a stream is stamped further ahead of now than this: a dead stream is "
        "noticed later by as much.", bounds=(0.0, 10000.0), unit="ms"),
    Parameter("blend_ms", 100.0, "Time within which a new plan takes over from the one before.", bounds=(0.0, 5000.0),
        unit="ms", live=True),
    Parameter("realtime_chunking", False, "Tell the policy's optimiser which steps will have been executed when its "
        "plan arrives: it leaves them as they are and goes on from them, without a seam. Otherwise, and with policies "
        "that optimise nothing, a plan is only blended in, which heeds what is new sooner.", live=True),
    Parameter("delay_quantile", 0.75, "Which of the recent delays, from an observation to the first command of its "
        "plan, a plan is expected to have.", bounds=(0.0, 1.0), live=True),
    Parameter("max_delay_steps", 4.0, "How many of its steps a plan's delay may span: with a longer delay all motion "
        "is slower by as much. 0: never, for tasks that must be done at their own speed.", bounds=(0.0, 1000.0),
        unit="steps", live=True),
    Parameter("added_delay_ms", 0.0, "Makes each plan take so much longer, to try out how a slow computer would do; 0 "
        "on a robot.", bounds=(0.0, 10000.0), unit="ms"),
    Parameter("lookahead_ms", 0.0, "Read the plan this far ahead, to make up for the delay of the robot.",
        bounds=(0.0, 1000.0), unit="ms", live=True),
    Parameter("checks", list(DEFAULT_CHECKS), "Checks of the gate, in order. Begins with 'finite' and 'joint names'; "
        "further ones come from packages with the entry point group 'difftop_ros.checks'.", live=True),
    Parameter("max_plan_age_ms", 500.0, "Gate: age of the observation behind a plan beyond which the robot holds.",
        bounds=(10.0, 60000.0), unit="ms", live=True),
    Parameter("max_plan_excess", 0.0, "Refuse a plan that asks for more than this multiple of a joint's velocity, "
        "acceleration or jerk limit between two steps, or at the seam; 0: such a plan is followed as fast as limits "
        "permit, and shown.", bounds=(0.0, 1e6), live=True),
    Parameter("max_novelty", 4.0, "Hold while an observation is farther than this from those of training: 1 is the 99 "
        "% quantile of held-out demonstrations; 0: only show it. A policy that was not calibrated tells none.",
        bounds=(0.0, 1e6), live=True),
    Parameter("max_outside", 0.5, "Refuse a plan for which the policy's networks asked for more than this share of a "
        "joint's range outside its bounds, as broken weights do; less is brought to the bound, counted and shown. 0: "
        "refuse none.", bounds=(0.0, 1e6), live=True),
    Parameter("tracking_s", 0.5, "Gate, position mode: a command may be ahead of the measured position by this time at "
        "the joint's velocity limit.", bounds=(0.02, 60.0), unit="s", live=True),
    Parameter("resume_after_frames", 3, "Fresh accepted plans that end a hold.", bounds=(1, 1000), unit="plans",
        live=True),
    Parameter("max_failures", 5, "Holds within failure_window_s after which the node deactivates.", bounds=(1, 1000),
        unit="holds", live=True),
    Parameter("failure_window_s", 10.0, "Window in which holds are counted.", bounds=(0.1, 3600.0), unit="s",
        live=True),
    Parameter("max_overruns", 5, "Control ticks in a row, each late by whole periods, that begin a hold.",
        bounds=(1, 1000), unit="ticks", live=True),
    Parameter("report_rate_hz", 10.0, "SolverStatus while no plan is made, and checks of the workers.",
        bounds=(1.0, 100.0), unit="Hz"),
)  # fmt: skip
