"""The recorder node: a recorder as its parameters say, with services, keys and /diagnostics.

Run it by `python -m difftop_ros.nodes.recorder.node --ros-args -p contract:=FILE -p out:=DIR`. Episodes are begun and
ended by the services ~/start and ~/stop (data: success), or by the simulator's /sim/episode with automatic:=true.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difftop_ros.contract import load_contract
from difftop_ros.nodes.parameters import declare
from difftop_ros.nodes.process import named, run_node
from difftop_ros.nodes.recorder.parameters import NODE_NAME, PARAMETERS
from difftop_ros.nodes.recorder.recorder import Recorder, summary
from difftop_ros.nodes.recorder.services import AutomaticEpisodes, KeyboardControl, RecorderServices
from difftop_ros.paths import share_path


class RecorderProgram:
    """The process of a recorder: runs until a signal; an open bag is closed then, marked as interrupted.

    `status` is told of the recorder ten times a second.
    """

    def __init__(self, node: Any, status: Callable[[Recorder], None]) -> None:
        self._status = status
        values = declare(node, PARAMETERS)
        contract = load_contract(values["contract"] or share_path("config/panda_table.yaml"))
        self._recorder = Recorder(
            node, contract, Path(values["out"]).expanduser(), name=values["name"],
            extra=[topic for topic in values["extra_topics"] if topic], compress=values["compress"],
        )  # fmt: skip
        if values["automatic"]:
            AutomaticEpisodes(self._recorder, values["stay_s"])
        RecorderServices(self._recorder)
        if values["keys"]:
            KeyboardControl(self._recorder)
        node.get_logger().info(f"ready: contract '{contract.name}', bags go to {self._recorder.out}")

    def turn(self, signals: int) -> bool:
        """See Program."""
        self._status(self._recorder)
        return not signals

    def end(self) -> int:
        """See Program."""
        if self._recorder.recording:
            print(summary(self._recorder.stop(None, interrupted=True)), file=sys.stderr)
        return 0


def main(arguments: list[str] | None = None, status: Callable[[Recorder], None] = lambda recorder: None) -> int:
    """Runs the recorder until Ctrl-C or SIGTERM. Exit code 2, with one sentence, for a user's mistake."""
    return run_node(named(NODE_NAME), lambda node: RecorderProgram(node, status), arguments)


if __name__ == "__main__":
    sys.exit(main())
