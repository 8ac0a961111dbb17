"""`difftop bag`: look into recordings and make datasets of them. The work is done in difftop_ros.data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from difftop_ros.commands.console import StatusLine, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = "Looks into rosbag2 recordings (mcap or sqlite3, also compressed or cut short)."
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    inspect = jobs.add_parser("inspect", help="topics, types, rates, gaps, ages, and a strip of pictures")
    inspect.add_argument("bag", help="rosbag2 folder, or .mcap or .db3 file")
    inspect.add_argument("--contract", help="also say what this contract misses in the bag")
    inspect.add_argument("--strip", metavar="PNG", help="write a sheet of pictures, clouds and pairs here")
    inspect.add_argument("--columns", type=int, default=8, help="pictures in a row of the strip")
    ingest = jobs.add_parser("ingest", help="synchronise bags by a contract into a dataset for training")
    ingest.add_argument("bags", nargs="+", help="bags, or folders of bags")
    ingest.add_argument("--contract", help="robot contract (default: the bags' own, else the demo's)")
    ingest.add_argument("--out", required=True, help="folder of the dataset; bags already in it are not read again")
    ingest.add_argument("--strict", action="store_true", help="exit with 2 if anything is left out of any bag")
    convert = jobs.add_parser("convert", help="make a dataset for training of other people's demonstrations")
    convert.add_argument(
        "file",
        help="robomimic's .hdf5 file, a .zarr folder of DP3 or Diffusion Policy or its .zip, or a folder of LeRobot's",
    )
    convert.add_argument(
        "--from", dest="kind", choices=["robomimic", "dp3", "lerobot"], help="layout (default: by the file's name)"
    )
    convert.add_argument("--contract", required=True, help="contract that says what the numbers are to become")
    convert.add_argument(
        "--out", required=True, help="folder of the dataset; episodes already in it are not read again"
    )
    convert.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="OBSERVATION=KEY",
        help="where an observation is in the file, KEY+KEY joins several; may be repeated (default: by usual names)",
    )

    export = jobs.add_parser("export", help="write a dataset of 'difftop bag ingest' in another layout")
    export.add_argument("dataset", help="folder of the dataset")
    export.add_argument("--lerobot", required=True, metavar="OUT", help="folder to write, as LeRobotDataset v3.0")
    export.add_argument("--task", default="", help="what is done in it, in words (default: the contract's name)")
    export.add_argument("--include-failures", action="store_true", help="episodes marked as failed, too")
    take = jobs.add_parser("import", help="make a dataset for training of one in another layout")
    take.add_argument("--lerobot", required=True, metavar="IN", help="folder of a LeRobotDataset v3.0")
    take.add_argument("--contract", help="robot contract (default: the one in it, if difftop exported it)")
    take.add_argument("--out", required=True, help="folder of the dataset; episodes already in it are not read again")
    take.add_argument("--key", action="append", default=[], metavar="OBSERVATION=KEY", help="as of 'bag convert'")


def run(args: argparse.Namespace) -> int:
    """Returns 0; 1 when --contract finds errors in the bag."""
    jobs = {"inspect": _inspect, "ingest": _ingest, "convert": _convert, "export": _export, "import": _import}
    return jobs[args.job](args)


def _export(args: argparse.Namespace) -> int:
    from difftop_ros.data import EpisodeDataset
    from difftop_ros.data.episodes.lerobot.export import export

    dataset = EpisodeDataset(args.dataset, include_failures=args.include_failures)
    info = export(dataset, Path(args.lerobot), args.task or dataset.contract.name)
    print(f"{args.lerobot}: {info['total_episodes']} episodes, {info['total_frames']} steps, {list(info['features'])}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from difftop_ros.contract import load_contract
    from difftop_ros.data.episodes.lerobot.read import contract_of
    from difftop_ros.errors import UserError

    folder = Path(args.lerobot)
    contract = load_contract(args.contract) if args.contract else contract_of(folder)
    if contract is None:
        raise UserError(f"'{folder}' says nothing of the robot's contract; write one and give it by --contract")
    print_report(convert_from(folder, "lerobot", contract, args))
    return 0


def _convert(args: argparse.Namespace) -> int:
    from difftop_ros.contract import load_contract

    path = Path(args.file)
    usual = (
        "robomimic" if path.suffix in (".hdf5", ".h5") else "lerobot" if (path / "meta/info.json").is_file() else "dp3"
    )
    print_report(convert_from(path, args.kind or usual, load_contract(args.contract), args))
    return 0


def convert_from(path: Path, kind: str, contract: Any, args: argparse.Namespace) -> Any:
    """The report of a conversion. UserError for a --key that is none."""
    from difftop_ros.data.episodes.convert import convert
    from difftop_ros.errors import UserError

    pairs = [word.partition("=") for word in args.key]
    wrong = [name + equals for name, equals, key in pairs if not (name and equals and key)]
    if wrong:
        raise UserError(f"--key is '{wrong[0]}'; write OBSERVATION=KEY, such as joints=robot0_eef_pos")
    keys = {name: key for name, _, key in pairs}
    return convert(path, kind, contract, args.out, keys=keys)


def _inspect(args: argparse.Namespace) -> int:
    from difftop_ros.contract import load_contract
    from difftop_ros.data.bags.check import offer_of_bag, ranked, worst
    from difftop_ros.data.bags.reader import open_bag
    from difftop_ros.data.bags.timing import TIMING_NOTE, bag_timings, timing_rows

    contract = load_contract(args.contract) if args.contract else None
    with open_bag(args.bag) as bag:
        if bag.salvaged:
            print(f"note: {bag.salvaged}")
        mark = bag.mark()
        if mark:
            print(", ".join(f"{key}: {value}" for key, value in mark.items() if not isinstance(value, dict)))
        offer = offer_of_bag(bag, contract) if contract else None
        timings = offer.timings if offer else bag_timings(bag)
        print_table(timing_rows({topic: info.type for topic, info in bag.topics.items()}, timings))
        print(TIMING_NOTE)
        if args.strip:
            from difftop_ros.data.bags.strip import write_strip

            pairs = _pairs(Path(args.bag), contract) if contract else []
            rows = write_strip(bag, Path(args.strip), max(1, args.columns), pairs)
            print(f"{rows} rows of pictures and pairs in {args.strip}")
    if contract is None or offer is None:
        return 0
    from difftop_ros.data.episodes.verdict import check_bag

    findings = check_bag(args.bag, contract, offer)
    print_table([vars(finding) for finding in ranked(findings)])
    return int(worst(findings) == "error")


def _pairs(bag: Path, contract: Any) -> list[Any]:
    """Charts of what the contract makes of the bag; none where that is nothing, which the findings explain."""
    from difftop_ros.data import DatasetError
    from difftop_ros.data.episodes.pairs import draw_pairs

    try:
        return draw_pairs(bag, contract)
    except DatasetError:
        return []


def _ingest(args: argparse.Namespace) -> int:
    from difftop_ros.data import find_bags, ingest
    from difftop_ros.data.bags.described import chosen_contract

    bags = find_bags(args.bags)
    contract = chosen_contract(args.contract, bags)
    with StatusLine() as line:
        report = ingest(
            bags,
            contract,
            args.out,
            strict=args.strict,
            progress=lambda done, total, result: line.show(f"{done}/{total} {Path(result.bag).name}"),
        )
    print_report(report)
    return 0


def print_report(report: Any) -> None:
    """What became of each bag, then what needs attention."""
    print_table(report.rows())
    print("\n".join(report.notes()))
