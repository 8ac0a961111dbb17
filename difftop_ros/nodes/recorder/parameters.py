"""The recorder node's parameters."""

from __future__ import annotations

from difftop_ros.nodes.parameters import Parameter

NODE_NAME = "difftop_recorder"
PARAMETERS = (
    Parameter("contract", "", "path of the robot contract; '' is the demo's config/panda_table.yaml"),
    Parameter("out", "bags", "folder the bags are written into"),
    Parameter("name", "", "common name of the bags; '' is the contract's name"),
    Parameter("extra_topics", [""], "further topics to record when they are there"),
    Parameter("compress", True, "compress chunks with zstd"),
    Parameter("automatic", False, "a bag for each episode of /sim/episode, instead of the services"),
    Parameter("stay_s", 0.5, "with automatic: go on this long after the episode's end", (0.0, 3600.0), "s"),
    Parameter("keys", False, "s, f, i, q and Enter on the terminal"),
)
