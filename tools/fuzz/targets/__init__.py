"""What is fuzzed: for each target how an input is made of a random number, and what it is fed to.

A target is made once in a process (its samples, its folders), then `make(rng)` gives the bytes of an input and
`feed(bytes)` hands them over. The product may refuse by UserError alone.
"""

from __future__ import annotations

from tools.fuzz.targets.bags import Bags, Datasets, Marks
from tools.fuzz.targets.base import Target
from tools.fuzz.targets.files import ConfigFile, ContractFile, ModelFolder, Parameters, SpheresFile
from tools.fuzz.targets.places import Places
from tools.fuzz.targets.robots import CostsFile, Descriptions
from tools.fuzz.targets.training import Checkpoints, TrainingRecord
from tools.fuzz.targets.wire import Commands, Messages, Plans, Streams

TARGETS: dict[str, type[Target]] = {
    "contract": ContractFile,
    "config": ConfigFile,
    "training": TrainingRecord,
    "checkpoint": Checkpoints,
    "spheres": SpheresFile,
    "costs": CostsFile,
    "robot": Descriptions,
    "model": ModelFolder,
    "messages": Messages,
    "streams": Streams,
    "places": Places,
    "commands": Commands,
    "plans": Plans,
    "bags": Bags,
    "marks": Marks,
    "dataset": Datasets,
    "parameters": Parameters,
}
