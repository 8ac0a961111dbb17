"""What a contract says of a bag: ingest's own verdict, with findings that explain it. For `contract check --bag`."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from difftop_ros.contract import Contract
from difftop_ros.data.bags.check import Finding, Offer, check
from difftop_ros.data.episodes.ingest import ingest_bag


def check_bag(path: str | Path, contract: Contract, offer: Offer) -> list[Finding]:
    """The findings on a bag and what it offers (check.offer_of_bag); one is an error exactly if ingest skips the bag.

    The bag is ingested, every frame decoded, into a folder that is thrown away: a sample cannot know what comes later.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = ingest_bag(Path(path), contract, Path(folder))
    found = check(contract, offer, live=False)
    if result.status == "skipped":
        told = any(f.level == "error" and f.text in result.reason for f in found)
        return found if told else [*found, Finding("error", "ingest", result.reason)]
    eased = [dataclasses.replace(f, level="warning") if f.level == "error" else f for f in found]
    return [*eased, *(Finding("warning", "ingest", note) for note in result.notes)]
