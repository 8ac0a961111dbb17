"""`difftop demo`: the shipped policy closed loop on the simulated arm, over real ROS 2. Its course: closed_loop.py."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from difftop_ros.commands.arguments import FOREIGN, OBSTACLES, add_engine, task_of, their_contract
from difftop_ros.commands.console import print_table

DESCRIPTION = """\
Starts a simulated robot and the policy node as two processes that know each other by ROS 2 topics alone, lets the
policy act from starts it has never seen, and measures: successes, planning and control rate, latencies, ticks lost.
Leaves a video, a contact sheet and summary.json in --out, and no process or shared memory behind.
Exit code 0 if enough episodes succeeded, 1 if not, 2 if it could not be run, 130 after Ctrl-C.
"""
FIRST_SEED = 1_000_000  # learning.evaluate.EVALUATION_SEED, without importing torch; recordings use seeds far below
DEFAULT_MODEL = "models/panda_lift"
OUTPUTS = ("summary.json", "demo.mp4", "demo.gif", "contact_sheet.png", "simulation.log", "policy_node.log")
FILM_SIZE, FILM_CAMERAS = (480, 360), ("overview", "front")
GIF_BYTES = 2_900_000
COSTS = "config/costs_cloud.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--model", type=Path, help=f"folder of the trained policy (default: {DEFAULT_MODEL})")
    parser.add_argument("--episodes", type=int, default=10, help="how many")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first episode, then one more each")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="where results go")
    parser.add_argument(
        "--min-successes", type=int, metavar="N", help="exit code 1 below (default: 80%% of the episodes)"
    )
    parser.add_argument("--realtime-factor", type=float, default=1.0, help="pace of the simulation")
    parser.add_argument("--seconds", type=float, help="longest episode (default: the contract's episode.max_seconds)")
    parser.add_argument("--task", default="", help="reach, push or lift (default: the contract's sim.task)")
    add_engine(parser, foreign=True)
    parser.add_argument(
        "--obstacle", nargs="?", const="post", choices=OBSTACLES[1:], help="something that the policy never saw stands "
        "in its way, in each episode elsewhere (alone: a post)",
    )  # fmt: skip
    parser.add_argument(
        "--costs", metavar="FILE", help=f"costs added to every plan (default with an obstacle: {COSTS}); 'none': the "
        "plan as it is",
    )  # fmt: skip
    parser.add_argument("--contract", help="another contract than the policy's own, for simulation and policy node")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where the policy computes")
    parser.add_argument("--no-film", action="store_true", help="no video, no pictures")
    parser.add_argument("--network", action="store_true", help="let other machines see the topics, to watch in RViz")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="a parameter of the policy node"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit code."""
    from difftop_ros.nodes.children import SignalsAsException

    _check(args)
    began = time.monotonic()
    with SignalsAsException() as signals:
        summary, takes = _episodes(args, signals)
        from difftop_ros.commands.demo.report import facts, latencies, write_json

        for rows in (facts(summary), latencies(summary)):
            print()
            print_table(rows)
        print()
        write_json(args.out / "summary.json", summary)
        if not args.no_film:
            _film(args, summary["task"], takes)
    enough = summary["successes"] >= summary["minimum"]
    print(f"{'passed' if enough else 'FAILED'} in {time.monotonic() - began:.0f} s; all results in {args.out}")
    return 0 if enough else 1


def _check(args: argparse.Namespace) -> None:
    """Completes the defaults; UserError for options that make no sense."""
    from difftop_ros.errors import UserError
    from difftop_ros.nodes.parameters import assignment
    from difftop_ros.nodes.policy.parameters import PARAMETERS
    from difftop_ros.paths import share_path
    from difftop_ros.sim import require_simulator

    args.model = args.model or share_path(DEFAULT_MODEL)
    foreign = args.engine in FOREIGN
    args.contract = args.contract or their_contract(args.engine) or args.model / "contract.yaml"
    args.no_film = args.no_film or foreign  # drawn from the state of our own simulation
    args.task = task_of(args.engine, args.task, _model_facts(args.model)[0]) or ""
    if not foreign:
        require_simulator(args.task, "the demo")
    if foreign and args.obstacle:
        raise UserError(f"--obstacle stands in our own simulation; leave it out with --engine {args.engine}")
    if args.episodes < 1 or args.seed < 0:
        raise UserError(f"--episodes is {args.episodes} and --seed {args.seed}; at least 1 episode, seed 0 or more")
    if args.min_successes is None:
        args.min_successes = math.ceil(0.8 * args.episodes)
    if not 0 <= args.min_successes <= args.episodes:
        raise UserError(f"--min-successes is {args.min_successes}; expected 0 to the {args.episodes} episodes")
    if args.realtime_factor <= 0 or (args.seconds is not None and args.seconds <= 0):
        raise UserError("--realtime-factor and --seconds must be above 0")
    args.parameter = [assignment(PARAMETERS, text) for text in args.parameter]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in OUTPUTS:  # what an earlier demo left must not be taken for this one's
            (args.out / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--out '{args.out}' cannot be written to: {error}") from None


def _model_facts(folder: Path) -> tuple[Any, int]:
    """Contract and length of the observation history of a model folder; its weights are the policy node's matter."""
    from difftop_ros.contract import load_contract
    from difftop_ros.errors import UserError
    from difftop_ros.plain_yaml import read_yaml

    for name in ("contract.yaml", "config.yaml"):
        if not (folder / name).is_file():
            raise UserError(f"model folder '{folder}' lacks {name}; give a folder written by 'difftop train'")
    settings = read_yaml(folder / "config.yaml", "configuration").data
    steps = settings.get("obs_steps") if isinstance(settings, dict) else None
    if not isinstance(steps, int) or not 1 <= steps <= 1000:
        raise UserError(f"{folder / 'config.yaml'}: obs_steps is {steps!r:.40}; expected a small number: train again")
    return load_contract(folder / "contract.yaml"), steps


def _episodes(args: argparse.Namespace, signals: Any) -> tuple[dict[str, Any], list[Any]]:
    """Runs all episodes; the summary and what the film shows. Whatever happens, nothing is left running."""
    from difftop_ros.commands.demo import obstacle
    from difftop_ros.commands.demo.closed_loop import Demo, DemoOptions, machine
    from difftop_ros.commands.demo.report import line, summarise
    from difftop_ros.contract import load_contract
    from difftop_ros.sim.film import Take

    _, obs_steps = _model_facts(args.model)
    contract = load_contract(args.contract)
    limit_s = args.seconds or contract.episode.max_seconds
    task = args.task or contract.sim.task or "none"
    options = DemoOptions(
        args.model, args.out, limit_s, args.realtime_factor, args.network, args.task, args.device,
        (*args.parameter, *obstacle.costs_of(args.costs, args.obstacle)), Path(args.contract), args.engine in FOREIGN,
        args.success_when,
    )  # fmt: skip
    starts = obstacle.starts(args.obstacle, task, args.episodes, args.seed)
    starting = "the policy node beside a simulator" if options.foreign else "simulation and policy node"
    print(f"policy {args.model} on task '{task}', {args.episodes} unseen starts; starting {starting}")
    episodes: list[Any] = []
    demo = Demo(contract, obs_steps, options)
    try:
        demo.start()
        for seed, placed in starts:
            episodes.append(demo.episode(seed, placed))
            print(line(len(episodes), args.episodes, episodes[-1]), flush=True)
    finally:
        signals.ignore()  # the clean-up takes seconds, and must not be torn by an impatient second Ctrl-C
        demo.close()
    signals.resume()
    asked = {"planning_hz": contract.rate_hz, "control_hz": contract.control_rate_hz}
    facts = {"model": str(args.model), "contract": contract.name, "task": task, "asked": asked, "machine": machine()}
    shown = [
        (
            Take(f"seed {e.seed}  {e.seconds:.1f} s{_caption(e)}", e.success, [state for _, state in e.heard.film]),
            placed,
        )
        for e, (_, placed) in zip(episodes, starts, strict=True)
    ]
    return summarise(episodes, args.min_successes, facts), shown


def _caption(episode: Any) -> str:
    return f"  touched {episode.touched[0][0]}" if episode.touched else ""


def _film(args: argparse.Namespace, task: str, shown: list[Any]) -> None:
    """Video, GIF and contact sheet, drawn from the recorded states now that no control loop can be disturbed."""
    from difftop_ros.commands.demo.obstacle import Drawing
    from difftop_ros.nodes.simulation.state import STATE_HZ
    from difftop_ros.sim import film

    contract = _model_facts(args.model)[0]
    print("drawing the video ...", flush=True)
    drawing = Drawing(task, contract.sim.model or None, FILM_SIZE, FILM_CAMERAS)
    stay = round(STATE_HZ * 0.6)
    film.write_video(args.out / "demo.mp4", lambda: drawing.frames(shown, stay), STATE_HZ)
    film.write_png(args.out / "contact_sheet.png", drawing.sheet(shown))
    chosen = ([each for each in shown if each[0].success] or shown)[:3]
    every = 2
    thin = [(film.Take(t.caption, t.success, t.states[::every]), placed) for t, placed in chosen]
    frames = list(drawing.frames(thin, round(STATE_HZ / every)))
    if frames:
        film.write_gif(args.out / "demo.gif", frames, STATE_HZ / every, 400, GIF_BYTES)
