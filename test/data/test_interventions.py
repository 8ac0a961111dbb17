"""The flag of an intervention in a bag becomes spans of steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, ingest


@pytest.mark.parametrize(
    ("flag", "spans"),
    [
        ({}, []),
        ({0: False}, []),
        ({5: True, 9: False, 12: True, 13: False}, [[5, 9], [12, 13]]),
        ({0: True}, [[0, 24]]),
        ({3: True, 4: True, 20: True}, [[3, 24]]),
    ],
)
def test_spans_are_the_steps_at_which_it_was_raised(
    arm: Any, tmp_path: Path, flag: dict[int, bool], spans: list[list[int]]
) -> None:
    bag = arm.write_episode(tmp_path / "bag", 3, flag=flag)
    ingest([bag], parse_contract(arm.text), tmp_path / "dataset")
    (episode,) = EpisodeDataset(tmp_path / "dataset")
    assert episode.steps == 24
    assert episode.interventions == spans


def test_a_bag_that_was_moved_is_known_by_its_present_place(arm: Any, tmp_path: Path) -> None:
    bag = arm.write_episode(tmp_path / "before" / "bag", 3, flag={5: True})
    contract = parse_contract(arm.text)
    ingest([bag], contract, tmp_path / "dataset")
    moved = bag.parent.rename(tmp_path / "after") / "bag"
    assert ingest([moved], contract, tmp_path / "dataset").bags[0].status == "cached"
    (episode,) = EpisodeDataset(tmp_path / "dataset")
    assert episode.attributes["bag"] == str(moved)
    assert np.ptp(episode.interventions) == 19
