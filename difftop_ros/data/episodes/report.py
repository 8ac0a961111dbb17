"""What an ingest did with each bag and why, as JSON and as a table for people. Doing it is ingest.py's job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from difftop_ros.data.episodes.store import EPISODE_FILE
from difftop_ros.files import write_json

RESULT = "result.json"


@dataclass
class BagResult:
    """One bag's outcome. Counts are in policy steps unless they say otherwise."""

    bag: str
    status: str = "ingested"  # 'ingested', 'cached' or 'skipped'
    reason: str = ""  # why skipped
    episodes: list[str] = field(default_factory=list)  # folders below the dataset
    steps: int = 0
    success: bool | None = None  # None: the bag carries no mark
    leading: int = 0  # trimmed before every stream and the first command were there
    trailing: int = 0  # trimmed after a stream had ended
    held: dict[str, int] = field(default_factory=dict)  # observation -> steps that kept a stale frame
    gaps: int = 0  # steps left out, without a fresh observation ('drop') or a sound command; the episode is split there
    undecodable: dict[str, int] = field(default_factory=dict)  # observation or 'action' -> messages not decoded
    notes: list[str] = field(default_factory=list)  # salvage, first decoding error, …
    content: str = ""  # hash of what its steps hold, whatever the bag is called

    @property
    def said(self) -> list[str]:
        """Why it was skipped, and what else there is to say of it; nothing twice."""
        return [*filter(None, [self.reason]), *(note for note in self.notes if note not in self.reason)]

    @classmethod
    def cached(cls, folder: Path) -> BagResult | None:
        """What is told in `folder`, made by an earlier run; None when it is not there."""
        path = folder / RESULT
        if not path.is_file():
            return None
        return cls(**{**json.loads(path.read_text(encoding="utf-8")), "status": "cached"})

    def save(self, beside: Path, folder: Path) -> None:
        """Take the names of the episodes in `beside`, which will be `folder`, and write all into it."""
        self.episodes = [f"bags/{folder.name}/{part.name}" for part in sorted(beside.glob("part_*"))]
        self.content = _content(beside)
        write_json(beside / RESULT, asdict(self))

    def note_copy(self, of: str) -> None:
        """Say that it is the same recording as the bag `of`."""
        self.notes.append(f"the same recording as '{of}': it counts twice, in what is held out as well; delete one")


def _content(folder: Path) -> str:
    """Hash of the sizes and beginnings of an ingested bag's arrays; its stamps are among them, its name is not."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name == EPISODE_FILE:
            told = json.loads(path.read_text(encoding="utf-8"))
            digest.update(f"{told['first_ns']} {told['last_ns']} {told['steps']}\n".encode())
        else:
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode() + file.read(4096))
    return digest.hexdigest()


@dataclass
class IngestReport:
    """All bags of one ingest, in the order given."""

    dataset: str
    bags: list[BagResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def episodes(self) -> int:
        """Episodes now in the dataset."""
        return sum(len(bag.episodes) for bag in self.bags)

    @property
    def steps(self) -> int:
        """Policy steps now in the dataset."""
        return sum(bag.steps for bag in self.bags)

    @property
    def skipped(self) -> list[BagResult]:
        """Bags that gave no episode; `.reason` says why."""
        return [bag for bag in self.bags if bag.status == "skipped"]

    def objections(self) -> list[str]:
        """What a strict ingest refuses, a line each: every bag, message and step that was not used as recorded."""
        found = []
        for bag in self.bags:
            said = bag.said or ([f"{bag.gaps} steps are left out"] if bag.gaps else [])
            found += [f"{Path(bag.bag).name}: {text}" for text in said]
        return found

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, asdict(self))

    def rows(self) -> list[dict[str, Any]]:
        """For a table: a row for each bag. used, held and dropped count steps; why, `notes` say."""
        return [
            {
                "bag": Path(bag.bag).name,
                "status": bag.status,
                "success": {True: "yes", False: "no", None: "-"}[bag.success],
                "used": bag.steps,
                "held": sum(bag.held.values()),
                "split": max(len(bag.episodes) - 1, 0),
                "dropped": bag.leading + bag.trailing + bag.gaps,
            }
            for bag in self.bags
        ]

    def notes(self) -> list[str]:
        """What needs attention, and last what came of it all; a line each."""
        lines = []
        for bag in self.bags:
            name = Path(bag.bag).name
            lines += [f"{'skipped' if text == bag.reason else 'note'} {name}: {text}" for text in bag.said]
        cached = sum(bag.status == "cached" for bag in self.bags)
        lines.append(
            f"{self.episodes} episodes, {self.steps} steps in {self.dataset} "
            f"({cached} bags cached, {len(self.skipped)} skipped, {self.seconds:.1f} s)"
        )
        return lines
