"""Bags tell under which contract they were recorded; training and ingest take that where nobody says another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.contract import Contract, load_contract
from difftop_ros.data import BagError
from difftop_ros.data.bags.described import chosen_contract, recorded_contract
from difftop_ros.paths import share_path


@pytest.fixture
def bags(tmp_path: Path, write_bag: Callable[..., Path], episode: Callable[..., list[Any]]) -> list[Path]:
    return [write_bag(tmp_path / f"bag{i}", episode(steps=4, seed=i)) for i in range(2)]


def mark(bag: Path, contract: Contract) -> None:
    (bag / "episode.json").write_text(json.dumps({"success": True, "contract_as_recorded": contract.to_dict()}))


def test_it_is_the_bags_own_unless_another_is_given(
    bags: list[Path], contract: Contract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark(bags[1], contract)
    assert recorded_contract(bags) == contract == chosen_contract(None, [tmp_path])
    assert f"contract: '{contract.name}', under which the bags were recorded" in capsys.readouterr().out
    file = tmp_path / "other.yaml"
    file.write_text(contract.to_yaml().replace(f"name: {contract.name}", "name: other"))
    assert chosen_contract(file, bags).name == "other"


def test_bags_that_tell_nothing_get_the_demos(bags: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert recorded_contract(bags) is None
    assert chosen_contract(None, bags) == load_contract(share_path("config/panda_table.yaml"))
    assert "because no bag tells its own" in capsys.readouterr().out


def test_bags_of_two_contracts_are_a_question(bags: list[Path], contract: Contract, other_contract: Contract) -> None:
    mark(bags[0], contract)
    mark(bags[1], other_contract)
    with pytest.raises(BagError, match="give different data; say which is to hold by --contract"):
        recorded_contract(bags)
