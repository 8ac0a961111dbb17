"""`difftop record`: demonstrations to bags, by hand or by a scripted expert. The recorder is nodes/recorder/."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from difftop_ros.commands.arguments import FOREIGN, add_engine, task_of, their_contract
from difftop_ros.commands.console import StatusLine
from difftop_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = (
        "Records the contract's topics, one mcap bag per episode. Without --expert it sits beside your robot: Enter "
        "starts an episode, s or f ends it as success or failure (or use the services /difftop_recorder/start and "
        "/difftop_recorder/stop). With --expert a scripted expert gives demonstrations in simulation."
    )
    parser.add_argument("--contract", help="robot contract (default: the demo's, config/panda_table.yaml)")
    parser.add_argument("--out", default="bags", help="folder the bags are written into")
    parser.add_argument("--name", default="", help="common name of the bags (default: the contract's name)")
    parser.add_argument("--network", action="store_true", help="with --sim-time: do not keep to this machine")
    parser.add_argument("--sim-time", action="store_true", help="take the time from /clock")
    parser.add_argument("--topic", action="append", default=[], help="a further topic to record; may be repeated")
    group = parser.add_argument_group("scripted expert in simulation")
    group.add_argument("--expert", action="store_true", help="start a simulation and let its expert do the task")
    add_engine(group, foreign=True)
    group.add_argument("--episodes", type=int, default=20, help="how many")
    group.add_argument(
        "--task", default="", help="reach, push, lift or metaworld/push-v3 and so on (default: the contract's sim.task)"
    )
    group.add_argument("--model", default="", help="your own MJCF instead of the demo's scene")
    group.add_argument("--seed", type=int, default=0, help="seed of the first episode, then one more each")
    group.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="random pushes of the servos [rad], so that demonstrations show recoveries; try 0.02",
    )
    group.add_argument(
        "--varied-starts",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of episodes that begin anywhere over the table with the gripper closed, as after a failed grasp, "
        "so that demonstrations show how to try again; try 0.3",
    )
    group.add_argument(
        "--stay-steps",
        type=int,
        help="policy steps recorded after success (default: 1.25 s of them); a policy that never saw what comes after "
        "success often stops short of it",
    )


def run(args: argparse.Namespace) -> int:
    """Records; returns 0, or 1 when the expert never succeeded."""
    from difftop_ros.paths import share_path

    path = Path(args.contract or their_contract(args.engine) or share_path("config/panda_table.yaml"))
    return _run_expert(args, path) if args.expert else _run_by_hand(args, path)


def _run_expert(args: argparse.Namespace, path: Path) -> int:
    from difftop_ros.contract import load_contract
    from difftop_ros.nodes.recorder.demonstrations import ExpertSession
    from difftop_ros.nodes.recorder.simulations import ExpertOptions, ForeignBridge, OwnBridge

    if args.episodes < 1 or args.seed < 0:
        raise UserError(f"--episodes is {args.episodes} and --seed {args.seed}; at least 1 episode, seed 0 or more")
    contract = load_contract(path)
    # ends like Ctrl-C: the session closes the bag and takes the simulation down with it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not 0.0 <= args.varied_starts <= 1.0:
        raise UserError(f"--varied-starts is {args.varied_starts:g}; it is a share of the episodes, 0 to 1")
    task, foreign = task_of(args.engine, args.task, contract) or "", args.engine in FOREIGN
    options = ExpertOptions(task, args.noise, args.stay_steps, args.model, args.varied_starts)
    if foreign and (args.noise or args.varied_starts or args.model):
        raise UserError(f"--noise, --varied-starts and --model are our own simulation's; leave them with {args.engine}")
    simulation = ForeignBridge(contract, options, args.success_when) if foreign else OwnBridge(path.absolute(), options)
    done = []
    with ExpertSession(contract, Path(args.out), options, simulation, name=args.name) as session:
        for number in range(args.episodes):
            demo = session.record(args.seed + number)
            done.append(demo)
            pace = demo.steps / contract.rate_hz / demo.seconds
            print(
                f"episode {number + 1}/{args.episodes} seed {demo.seed}: {'success' if demo.success else 'FAILED'}, "
                f"{demo.steps} steps in {demo.seconds:.1f} s ({pace:.1f} x real time), {demo.bag}",
                flush=True,
            )
    good = sum(demo.success for demo in done)
    seconds = sum(demo.seconds for demo in done)
    print(f"{good} of {len(done)} succeeded; {sum(d.steps for d in done)} steps in {seconds:.0f} s, in {args.out}")
    return 0 if good else 1


def _run_by_hand(args: argparse.Namespace, path: Path) -> int:
    from difftop_ros.nodes import environment as ros_env

    # as `difftop run`: a simulation keeps to this machine, a robot's topics come over the network
    ros_env.prepare(local_only=args.sim_time and not args.network)
    from difftop_ros.nodes.recorder.node import main

    settings = [f"contract:={path.absolute()}", f"out:={args.out}"]
    settings += [f"name:={args.name}"] if args.name else []
    settings += ["use_sim_time:=true"] if args.sim_time else []
    settings += [f"extra_topics:=[{','.join(args.topic)}]"] if args.topic else []
    settings += ["keys:=true"] if sys.stdin.isatty() else []
    with StatusLine(sys.stdout, every_s=5.0, live_every_s=1.0, compiled_logs=True) as line:

        def show(recorder: Any) -> None:
            if line.due():
                line.show(status_line(recorder))

        return main(["--ros-args", *(part for setting in settings for part in ("-p", setting))], show)


def status_line(recorder: Any) -> str:
    """What a nodes.recorder.Recorder does, as one line: what is wrong first, then the rates of observed streams."""
    doing = f"recording {recorder.recording} for {recorder.seconds:.0f} s" if recorder.recording else "ready"
    wrong = recorder.failure or "; ".join(trouble.text for trouble in recorder.troubles())
    rates = "  ".join(f"{name.replace(chr(39), '')} {rate:.0f} Hz" for name, rate in recorder.rates().items())
    return "  ".join(part for part in (f"WARNING: {wrong}" if wrong else "", doing, rates) if part)
