"""YAML that is written to hurt, and contracts whose limits are none: one sentence with the line, at once, for all."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.contract import ContractError, load_contract, parse_contract
from difftop_ros.learning.settings import RECORD, TrainingError, TrainSettings
from difftop_ros.space import RobotModelError, Spheres

DEMO = (Path(__file__).parents[2] / "config" / "panda_table.yaml").read_text()
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {k0: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}\n" for i in range(1, 40))
HOSTILE: list[tuple[str, bytes, str]] = [
    ("alias bomb", LAUGHS.encode(), ":5: more than"),
    ("merge bomb", MERGES.encode(), "more than"),
    ("alias of itself", b"name: x\na: &a [1, *a]\n", ":2: *a contains itself"),
    ("deep brackets", b"name: " + b"[" * 100_000, ":1: nested deeper"),
    ("deep braces", b"a: " + b"{a: " * 50_000, ":1: nested deeper"),
    ("deep indents", "".join(f"{' ' * i}a:\n" for i in range(500)).encode(), "nested deeper"),
    ("long digits", b"name: x\nrate_hz: " + b"9" * 100_000, ":2: a number of 100000 digits"),
    ("long fraction", b"rate_hz: 0." + b"1" * 5000, ":1: a number of"),
    ("sexagesimal", b"rate_hz: 1" + b":59" * 5000, ":1: a number of"),
    ("date", b"name: x\nrobot: 2024-01-01\n", ":2: a date"),
    ("no date", b"name: 2024-13-99\n", "a date"),
    ("object", b"name: !!python/object/apply:os.system [ls]\n", ":1: a value of tag"),
    ("binary", b"name: !!binary aGVsbG8=\n", ":1: a value of tag"),
    ("set", b"name: !!set {a, b}\n", ":1: a value of tag"),
    ("twice", b"name: x\nname: y\n", ":2: key 'name' stands twice"),
    ("twice below", b"name: x\ncommand:\n  mode: a\n  mode: b\n", ":4: key 'mode' stands twice"),
    ("key that is a number", b"1: x\n", ":1: key '1' is no text"),
    ("key that is a list", b"? [a, b]\n: x\n", "is no text"),
    ("long key", b"a" * 1000 + b": 1\n", ":1: key"),
    ("tab", b"name: x\n\trate_hz: 1\n", ":2: not valid YAML"),
    ("zero byte", b"name: x\nrobot: a\x00b\n", ":2: not valid YAML"),
    ("latin-1", b"name: x\nrobot: \xfcber\n", ":2: byte 0xfc is no UTF-8"),
    ("utf-16", "name: x\n".encode("utf-16"), ":1: byte 0xff is no UTF-8"),
    ("two documents", b"name: x\n---\nname: y\n", ":2: not valid YAML"),
    ("no such tag", b"name: !foo x\n", ":1: a value of tag"),
    ("unknown alias", b"name: *x\n", ":1: not valid YAML"),
    ("many values", b"a: [" + b"1," * 100_000 + b"]", ":1: more than 20000 values"),
    ("100 MB", b"# " + b"x" * 100_000_000, "longer than"),
    ("many findings", "".join(f"k{i}: 1\n" for i in range(9000)).encode(), "more"),
    ("text", b"just words\n", "expected"),
    ("nothing", b"", "expected"),
]


def read_contract(path: Path) -> Any:
    return load_contract(path)


def read_record(path: Path) -> Any:
    path.rename(path.parent / RECORD)
    TrainSettings().check_resumable(path.parent, {})


LOADERS: list[tuple[Callable[[Path], Any], type[Exception]]] = [
    (read_contract, ContractError), (Spheres.load, RobotModelError), (read_record, TrainingError),
]  # fmt: skip


@pytest.mark.parametrize(("load", "error"), LOADERS, ids=["contract", "spheres", "training"])
@pytest.mark.parametrize(("raw", "words"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_yaml_is_refused_at_once_and_in_little_memory(
    raw: bytes, words: str, load: Any, error: Any, tmp_path: Path
) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        start = time.process_time()
        with pytest.raises(error) as refused:
            load(path)
        assert time.process_time() - start < 10  # a bomb takes hours; how quick it is, is the fuzzer's matter
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    message = str(refused.value)
    if load is read_contract:
        assert words in message, message
    assert len(message) < 10_000


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("a\0b"), Path("x" * 5000)):
        with pytest.raises(ContractError):
            load_contract(path)


LIMIT = "position: [-2.8973, 2.8973]"
SWITCHED_OFF = [
    ("rate_hz: 20", "rate_hz: 1.0e+9"),
    ("rate_hz: 20", "rate_hz: 1.0e-308"),
    ("rate_hz: 20", "rate_hz: 1" + "0" * 400),
    ("control_rate_hz: 50", "control_rate_hz: 1.0e+9"),
    ("velocity: 2.175", "velocity: 1.0e+308"),
    ("velocity: 2.175", "velocity: .inf"),
    ("velocity: 2.175", "velocity: .nan"),
    ("velocity: 2.175", "velocity: 0.0"),
    ("velocity: 2.175", "velocity: 5.0e-324"),
    ("velocity: 2.175", "velocity: -1.0"),
    ("velocity: 2.175", "velocity: 1000000"),
    (LIMIT, "position: [-1.0e+308, 1.0e+308]"),
    (LIMIT, "position: [-.inf, .inf]"),
    (LIMIT, "position: [0.0, 0.0]"),
    (LIMIT, "position: [0.0, 5.0e-324]"),
    (LIMIT, "position: [1.0, -1.0]"),
    ("max_age_ms: 100", "max_age_ms: 1.0e+308"),
    ("max_age_ms: 100", "max_age_ms: 1.0e-300"),
    ("points: 256", "points: 1000000000"),
    ("name: panda_table", "name: " + "x" * 1000),
    *[("topic: joint_states", f"topic: {topic!r}") for topic in (
        "/ü", "/a b", "//x", "/x/", "x//y", "/", "", "~/x", "1x", "/a/1b", "a-b", "a.b", "/a\\n", "{x}",
        "/" + "a" * 300,
    )],
    *[("  joints:\n", f"  {key}:\n") for key in ("''", "a b", "../x", "a.b", "ü", "1", "x" * 100)],
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), SWITCHED_OFF, ids=lambda text: text[:30])
def test_limits_and_names_that_no_robot_has_are_refused(old: str, new: str) -> None:
    assert old in DEMO, f"the demo contract no longer has {old!r}"
    with pytest.raises(ContractError) as refused:
        parse_contract(DEMO.replace(old, new, 1), "my.yaml")
    assert str(refused.value).startswith("my.yaml:") and len(str(refused.value)) < 2000


def test_anchors_and_merges_that_people_use_still_work() -> None:
    text = "a: &a {velocity: 1}\nb: {<<: *a, c: 2}\nc: *a\n"
    from difftop_ros.plain_yaml import parse_yaml

    assert parse_yaml(text, "x").data == {"a": {"velocity": 1}, "b": {"velocity": 1, "c": 2}, "c": {"velocity": 1}}
