"""The sizes of the house: rooms, folders and files stay small enough to be known. What imports what: make lint."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "difftop_ros"
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


def test_no_folder_has_too_many_files() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__")]
    counts = {str(folder.relative_to(PACKAGE.parent)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_no_file_is_too_long() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    counts = {str(path.relative_to(PACKAGE.parent)): len(path.read_text().splitlines()) for path in paths}
    assert {name: count for name, count in counts.items() if count > MOST_LINES} == {}
