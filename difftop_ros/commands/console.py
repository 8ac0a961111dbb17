"""What commands write on a terminal: tables, and one status line that is rewritten. Words of the verbs are their own.

`rich` is imported with the first line that is written, so that `--help` stays fast.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from difftop_ros.learning.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

Line = TypeVar("Line", bound="StatusLine")
_WIDE = 1000  # columns of what is not a terminal: nothing is wrapped or cut there


def console(stream: TextIO) -> Console:
    """A rich console that neither colours nor interprets what it is given."""
    from rich.console import Console

    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_table(rows: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    """Rows under the names of their columns, those of the first row; numbers to the right. Nothing for no rows."""
    if not rows:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    for name in rows[0]:
        numbers = all(isinstance(row[name], (int, float)) or row[name] == "-" for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    shown = console(stream or sys.stdout)
    with shown.capture() as drawn:
        shown.print(table)
    for line in drawn.get().splitlines():
        print(line.rstrip(), file=stream or sys.stdout)


class StatusLine:
    """One line that is rewritten on a terminal; elsewhere plain lines, at most one each `every_s` seconds.

    Use it as a context manager: on a terminal, what is printed meanwhile (sys.stdout, sys.stderr) appears above it.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        every_s: float = 20.0,
        live_every_s: float = 0.5,
        compiled_logs: bool = False,
    ) -> None:
        """stream: sys.stderr for None; compiled_logs: what compiled libraries log to stderr appears above it too, as
        ROS does, for which Python's sys.stderr is not enough; the stream is another one then.
        """
        self._stream = stream or sys.stderr
        self._compiled_logs = compiled_logs and sys.stderr.isatty()
        self._logs: _CompiledLogs | None = None
        self._live_stream = self._stream.isatty()
        self._every_s = live_every_s if self._live_stream else every_s
        self._next = 0.0
        self._live: Live | None = None

    def due(self) -> bool:
        """Whether a new text would be shown now; to spare making it."""
        return time.monotonic() >= self._next

    def show(self, text: str, *, last: bool = False) -> None:
        """Shows the text if it is time for one. last: at once, and it stays where it is."""
        if not last and not self.due():
            return
        self._next = time.monotonic() + self._every_s
        try:
            self._put(text, last)
        except OSError:  # the terminal is gone (an ssh session that dropped): what is shown there must not end the work
            self._next = float("inf")

    def _put(self, text: str, last: bool) -> None:
        if not self._live_stream:
            print(text, file=self._stream, flush=True)
            return
        self._start().update(_one_line(text), refresh=True)
        if last:
            self.close(keep=True)

    def close(self, keep: bool = False) -> None:
        """Takes the line away, or leaves it as it is; may be called twice."""
        if self._live is not None:
            self._live.transient = not keep
            if self._logs is not None:
                self._logs.end()
                self._logs = None
            self._live.stop()
            self._live = None

    def __enter__(self: Line) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Live:
        if self._live is None:
            from rich.live import Live

            # What goes to a file or a pipe cannot disturb the line, and has to get there.
            self._live = Live(
                console=console(self._stream), auto_refresh=False, transient=True,
                redirect_stdout=sys.stdout.isatty(), redirect_stderr=sys.stderr.isatty(),
            )  # fmt: skip
            self._live.start()
            if self._compiled_logs:
                self._logs = _CompiledLogs(self._live.console)
        return self._live


class _CompiledLogs:
    """Until `end`, lines that this process and its children write to file descriptor 2 are printed by the console."""

    def __init__(self, console: Console) -> None:
        sys.stderr.flush()
        self._kept = os.dup(2)
        source, sink = os.pipe()
        os.dup2(sink, 2)
        os.close(sink)
        self._thread = threading.Thread(target=self._print, args=(source, console), name="logs", daemon=True)
        self._thread.start()

    @staticmethod
    def _print(source: int, console: Console) -> None:
        with os.fdopen(source, errors="replace") as lines:
            for line in lines:
                console.print(line.rstrip("\n"))

    def end(self) -> None:
        """The descriptor is what it was; lines on their way are printed, unless a child keeps the pipe for a second."""
        os.dup2(self._kept, 2)
        os.close(self._kept)
        self._thread.join(1.0)


class ProgressLine(StatusLine):
    """A run's progress as one status line; its messages are printed to sys.stdout."""

    def __init__(self) -> None:
        super().__init__(live_every_s=1.0)

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        if progress.message:
            print(f"{progress.stage} {progress.step}/{progress.total_steps}: {progress.message}", flush=True)
            return
        last = progress.step >= progress.total_steps
        if not last and not self.due():
            return
        shown = {
            k.removeprefix("train/"): v for k, v in progress.metrics.items() if k.endswith(("_mse", "loss", "return"))
        }
        figures = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        rest = f", {progress.eta_s / 60:.1f} min to go" if progress.eta_s >= 0 else ""
        speed = f"{progress.steps_per_second:.1f} steps/s{rest}" if progress.steps_per_second else ""
        text = "  ".join(filter(None, (f"step {progress.step}/{progress.total_steps}", figures, speed)))
        self.show(text, last=last)


def _one_line(text: str) -> Any:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")
