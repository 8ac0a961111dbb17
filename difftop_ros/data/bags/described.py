"""The contract under which bags were recorded, as the recorder wrote it beside each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.data.bags.reader import find_bags, read_mark
from difftop_ros.data.errors import BagError
from difftop_ros.paths import share_path

DEMO = "config/panda_table.yaml"


def recorded_contract(paths: Iterable[Path]) -> Contract | None:
    """That of all bags at or below `paths` which tell theirs; None if none does.

    Raises BagError when they were recorded under contracts that give different data.
    """
    found: dict[str, tuple[Path, Contract]] = {}
    for bag in find_bags(list(paths)):
        folder = bag if bag.is_dir() else bag.parent
        told = read_mark(folder).get("contract_as_recorded")
        if isinstance(told, dict):
            contract = parse_contract(Contract.model_validate(told).to_yaml(), str(folder))
            found.setdefault(contract.data_sha256(), (bag, contract))
    if len(found) > 1:
        (one, _), (other, _) = list(found.values())[:2]
        raise BagError(
            f"'{one}' and '{other}' were recorded under contracts that give different data; say which is to hold by "
            "--contract"
        )
    return next((contract for _, contract in found.values()), None)


def chosen_contract(given: Path | str | None, bags: Iterable[Path]) -> Contract:
    """The contract of the file `given`, else the bags' own, else the demo's; says which where nobody said."""
    if given:
        return load_contract(given)
    bags = list(bags)
    own = recorded_contract(bags) if bags else None
    if own is not None:
        print(f"contract: '{own.name}', under which the bags were recorded")
        return own
    print(f"contract: the demo's, {DEMO}, because no bag tells its own; --contract gives another")
    return load_contract(share_path(DEMO))
