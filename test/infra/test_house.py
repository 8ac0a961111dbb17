"""The sizes of the house: rooms, folders and files stay small enough to be known. What imports what: make lint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "difftop_ros"
CODE = ("difftop_ros", "test", "benchmarks", "examples", "tools", "launch")
MOST_OF_A_ROOM = 0.18  # share of the package's lines
MOST_FILES = 14
MOST_LINES = 450


def lines(folder: Path) -> int:
    """Lines of all Python files below a folder."""
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))


def test_no_room_is_a_house_of_its_own() -> None:
    total = lines(PACKAGE)
    shares = {room.parent.name: lines(room.parent) / total for room in PACKAGE.glob("*/__init__.py")}
    assert len(shares) > 10
    assert {name: round(share, 3) for name, share in shares.items() if share > MOST_OF_A_ROOM} == {}


def files() -> list[Path]:
    """Every Python file of ours."""
    return [path for name in CODE for path in sorted((ROOT / name).rglob("*.py"))]


def test_no_folder_has_too_many_files() -> None:
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in files())
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_no_file_is_too_long() -> None:
    counts = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()}
    assert {name: count for name, count in counts.items() if count > MOST_LINES} == {}
