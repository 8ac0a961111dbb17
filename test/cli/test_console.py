"""Tables and the status line: plain and whole when piped; on a terminal one line that no message runs into."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from difftop_ros.commands.console import ProgressLine, StatusLine, print_table
from difftop_ros.learning.progress import Progress

RUN = """
import sys
from difftop_ros.commands.console import ProgressLine
from difftop_ros.learning.progress import Progress
with ProgressLine() as line:
    line(Progress("train", 1, 3, metrics={"train/loss": 0.5}))
    line(Progress("train", 2, 3, message="a message"))
    print("printed by somebody", file=sys.stderr)
    line(Progress("train", 3, 3, metrics={"train/loss": 0.25}))
print("the end")
"""


def on_terminal(code: str, stdout: Path | None = None) -> str:
    """What a terminal of 80 columns is sent by the code."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with stdout.open("wb") if stdout else os.fdopen(os.dup(follower), "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=follower, stdout=out, stderr=follower, env=environment
        )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # how Linux tells that nobody writes any more
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(30) == 0, shown
    return shown.decode()


def screen(sent: str) -> list[str]:
    """The lines a terminal shows after it was sent this: carriage returns, erasing, and one line up."""
    lines, row, column, index = [""], 0, 0, 0
    while index < len(sent):
        char = sent[index]
        index += 1
        if char == "\x1b":
            start = index
            while not sent[index].isalpha():
                index += 1
            code, number = sent[index], sent[start + 1 : index]
            index += 1
            if code == "K":
                lines[row] = "" if number == "2" else lines[row][:column]
            elif code == "A":
                row -= int(number or 1)
        elif char == "\r":
            column = 0
        elif char == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        else:
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_messages_stand_above_the_live_line() -> None:
    lines = [line for line in screen(on_terminal(RUN)) if line]
    assert lines == [
        "train 2/3: a message",
        "printed by somebody",
        "step 3/3  loss 0.2500",
        "the end",
    ]


def test_what_goes_to_a_file_gets_there(tmp_path: Path) -> None:
    lines = [line for line in screen(on_terminal(RUN, tmp_path / "log")) if line]
    assert (tmp_path / "log").read_text() == "train 2/3: a message\nthe end\n"
    assert lines == ["printed by somebody", "step 3/3  loss 0.2500"]


def test_piped_it_is_plain_lines(capsys: pytest.CaptureFixture) -> None:
    with ProgressLine() as line:
        for step in range(1, 100):
            line(Progress("train", step, 99))
        line(Progress("done", 99, 99, message="x" * 300))
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out and "\r" not in captured.err
    assert [text.split()[1] for text in captured.err.splitlines()] == ["1/99", "99/99"]
    assert captured.out == f"done 99/99: {'x' * 300}\n"


def test_a_long_status_stays_on_one_line() -> None:
    code = (
        "from difftop_ros.commands.console import StatusLine\nimport sys\n"
        "with StatusLine(sys.stdout, live_every_s=0.0) as line:\n"
        "    line.show('a' * 300)\n    line.show('b' * 300)\n    line.show('c' * 300, last=True)"
    )
    (line,) = [line for line in screen(on_terminal(code)) if line]
    assert len(line) == 80 and line.startswith("ccc")


def test_logs_of_compiled_libraries_stand_above_the_live_line() -> None:
    code = (
        "from difftop_ros.commands.console import StatusLine\nimport os, subprocess, sys\n"
        "with StatusLine(sys.stdout, live_every_s=0.0, compiled_logs=True) as line:\n"
        "    line.show('status')\n    os.write(2, b'a log of this process\\n')\n"
        "    subprocess.run(['sh', '-c', 'echo a log of a child >&2'])\n"
        "    line.show('status', last=True)\n"
        "os.write(2, b'and as before afterwards\\n')"
    )
    lines = [line for line in screen(on_terminal(code)) if line]
    assert lines == ["a log of this process", "a log of a child", "status", "and as before afterwards"]


def test_a_status_that_is_not_due_is_not_shown() -> None:
    stream = io.StringIO()
    line = StatusLine(stream, every_s=60.0)
    assert line.due()
    line.show("one")
    assert not line.due()
    line.show("two")
    line.show("three", last=True)
    assert stream.getvalue() == "one\nthree\n"


def test_a_table_lines_up_and_is_not_cut_when_piped() -> None:
    stream = io.StringIO()
    long = "/a/very/long/topic" * 20
    print_table([{"topic": "/x", "Hz": 5.04, "note": "[bold]"}, {"topic": long, "Hz": "-", "note": ""}], stream)
    head, first, second = stream.getvalue().splitlines()
    assert head.split() == ["topic", "Hz", "note"] and first.split() == ["/x", "5.0", "[bold]"]
    assert second.split() == [long, "-"] and second.index(" -") + 2 == first.index("5.0") + 3
    print_table([], stream)
    assert len(stream.getvalue().splitlines()) == 3
