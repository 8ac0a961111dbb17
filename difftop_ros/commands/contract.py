"""`difftop contract`: validate a robot contract and compare it with a bag or a running graph."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from difftop_ros.commands.console import print_table
from difftop_ros.files import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = "A contract is one YAML that says what a robot offers and what a policy may command."
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    check = jobs.add_parser(
        "check", help="validate it; with --live or --bag also say what is missing, at what rate, of what age"
    )
    check.add_argument("file", help="the contract's YAML")
    where = check.add_mutually_exclusive_group()
    where.add_argument("--live", action="store_true", help="compare with the topics of the running robot or simulation")
    where.add_argument("--bag", help="compare with a recording")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    check.add_argument("--seconds", type=float, default=3.0, help="how long to listen with --live")
    check.add_argument("--namespace", default="/", help="with --live: the robot's namespace")
    check.add_argument("--local", action="store_true", help="with --live: this machine's topics only")
    init = jobs.add_parser("init", help="propose one from a bag or a running robot, to be looked over")
    source = init.add_mutually_exclusive_group(required=True)
    source.add_argument("--live", action="store_true", help="from the running robot and its controllers")
    source.add_argument("--bag", help="from a recording with the robot's joint states, commands and cameras")
    init.add_argument("--out", required=True, type=Path, help="YAML to write; a file that is there is kept")
    init.add_argument("--command", default="", metavar="TOPIC", help="command on this topic (default: the likeliest)")
    init.add_argument("--name", default="", help="name of the contract (default: that of the file)")
    init.add_argument("--seconds", type=float, default=3.0, help="how long to listen with --live")
    init.add_argument("--local", action="store_true", help="with --live: this machine's topics only")
    spheres = jobs.add_parser("spheres", help="cover a robot's shapes by spheres, for costs that keep it from touching")
    spheres.add_argument("file", help="the robot's description: URDF or MJCF")
    spheres.add_argument("--count", type=int, default=48, help="spheres in all; more fit closer and take longer")
    spheres.add_argument("--out", required=True, help="YAML to write: link -> [[x, y, z, radius], ...] [m]")
    spheres.add_argument("--picture", help="PNG to write, to look at what they cover")
    secure = jobs.add_parser("secure", help="write the policy file of a secured graph (SROS2) for all nodes")
    secure.add_argument("file", help="the contract's YAML")
    secure.add_argument("--out", required=True, type=Path, help="policies.xml to write")
    secure.add_argument("--namespace", default="/", help="the robot's namespace")
    show = jobs.add_parser("show", help="print what it says, and its hash")
    show.add_argument("file", help="the contract's YAML")


def run(args: argparse.Namespace) -> int:
    """Returns 0 when all is well, 1 when the comparison found errors."""
    if args.job in ("spheres", "init"):
        return {"spheres": _spheres, "init": _init}[args.job](args)
    from difftop_ros.contract import load_contract

    contract = load_contract(args.file)
    if args.job == "check" and args.live:
        contract = contract.in_namespace(args.namespace)
    if args.job == "secure":
        from difftop_ros.nodes.security import policy_file

        write_whole(args.out, policy_file(contract, args.namespace))
        print(f"{args.out}: give it to 'ros2 security create_permission KEYSTORE ENCLAVE {args.out}'")
        return 0
    if args.job == "show":
        print(contract.to_yaml().rstrip())
        print(f"# sha256 {contract.sha256}")
        print(f"# data   {contract.data_sha256()}")
        return 0
    from difftop_ros.messages.places.whereabouts import Whereabouts

    Whereabouts(contract).require()
    print(describe(contract))
    if not (args.live or args.bag):
        return 0
    from difftop_ros.data.bags.check import check, ranked, worst
    from difftop_ros.data.episodes.verdict import check_bag

    offer = _offer(args, contract)
    findings = check_bag(args.bag, contract, offer) if args.bag else check(contract, offer, live=True)
    print_table([vars(finding) for finding in ranked(findings)])
    return int(worst(findings) in (("error", "warning") if args.strict else ("error",)))


def _init(args: argparse.Namespace) -> int:
    from difftop_ros.contract import parse_contract
    from difftop_ros.data.proposal.offer import shown_by_bag
    from difftop_ros.data.proposal.write import LOOK, propose
    from difftop_ros.errors import UserError

    if args.out.exists():
        raise UserError(f"--out '{args.out}' is there already; give another name, or remove it")
    if args.bag:
        from difftop_ros.data.bags.reader import open_bag

        with open_bag(args.bag) as bag:
            shown, source = shown_by_bag(bag), f"the bag '{bag.name}'"
    else:
        from difftop_ros.nodes import environment as ros_env

        ros_env.prepare(local_only=args.local)
        from difftop_ros.nodes.listening import overhear

        shown, source = overhear(args.seconds), "a running robot"
        _tell_if_alone(shown.kinds)
    text = propose(shown, args.name or args.out.stem, source, args.command)
    write_whole(args.out, text)
    print(describe(parse_contract(text)))
    print(f"{args.out}: {text.count(LOOK) - 1} places say '{LOOK}'; take out the cameras that the policy need not see")
    return 0


def describe(contract: Any) -> str:
    """One line on a valid contract."""
    observed = ", ".join(f"{key} ({obs.kind})" for key, obs in contract.observations.items())
    return (
        f"{contract.name}: valid; {len(contract.command.joints)} joints by {contract.command.mode} on "
        f"{contract.command.topic} at {contract.control_rate_hz:g} Hz, policy at {contract.rate_hz:g} Hz from "
        f"{observed}"
    )


def _spheres(args: argparse.Namespace) -> int:
    import yaml

    from difftop_ros.sim.mujoco.spheres import cover, picture

    found = cover(args.file, args.count)
    write_whole(Path(args.out), yaml.safe_dump(found, default_flow_style=None, width=100))
    largest = max(row[3] for rows in found.values() for row in rows)
    count = sum(map(len, found.values()))
    print(f"{args.out}: {count} spheres on {len(found)} links, the largest of {largest:.3f} m")
    if args.picture:
        import cv2

        cv2.imwrite(args.picture, picture(args.file, found)[:, :, ::-1])
        print(f"{args.picture}: look whether they cover the robot and nothing stands far out")
    return 0


def _offer(args: argparse.Namespace, contract: Any) -> Any:
    if args.bag:
        from difftop_ros.data.bags.check import offer_of_bag
        from difftop_ros.data.bags.reader import open_bag

        with open_bag(args.bag) as bag:
            if bag.salvaged:
                print(f"note: {bag.salvaged}")
            return offer_of_bag(bag, contract)
    from difftop_ros.nodes import environment as ros_env

    ros_env.prepare(local_only=args.local)
    from difftop_ros.nodes.listening import listen

    offer = listen(contract, args.seconds)
    _tell_if_alone(offer.kinds)
    return offer


def _tell_if_alone(topics: Iterable[str]) -> None:
    from difftop_ros.nodes.environment import alone

    if hint := alone(topics):
        print(f"note: {hint}")
