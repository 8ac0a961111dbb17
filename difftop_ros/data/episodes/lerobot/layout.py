"""What lies where in a LeRobotDataset v3.0, and how its tables look. Videos are video.py's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.data.errors import DatasetError

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNK_FILES = 1000
OURS = "meta/difftop.json"  # contract and names, for the way back; LeRobot does not look at it
STATE, PICTURES, ACTION = "observation.state", "observation.images.", "action"
# Columns that LeRobot adds to every data set's own.
DEFAULTS: dict[str, str] = {
    "timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip


def arrow() -> Any:
    """pyarrow and its parquet module. Raises DatasetError where it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(f"LeRobot's files need pyarrow ({error}); pip install 'difftop_ros[lerobot]'") from error
    return pyarrow


def column(values: np.ndarray) -> Any:
    """An arrow array of values (T,), (T, 1), (T, n) or (T, n, m): numbers, lists, or lists of lists."""
    pa = arrow()
    if values.ndim == 1 or values.shape[1:] == (1,):
        return pa.array(values.reshape(-1))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        count = len(flat) // size
        flat = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * size), flat)
    return flat


def values(table: Any, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The column `name` as (T, *shape). Raises DatasetError when it has not that shape."""
    found = table.column(name).combine_chunks()
    while hasattr(found, "flatten") and str(found.type).startswith(
        ("list", "fixed_size_list", "extension", "large_list")
    ):
        found = found.storage if hasattr(found, "storage") else found.flatten()
    array = np.asarray(found.to_numpy(zero_copy_only=False))
    size = int(np.prod(shape))
    if array.size != len(table) * size:
        raise DatasetError(f"column '{name}' has {array.size} numbers in {len(table)} rows; its shape is {list(shape)}")
    return array.astype(dtype, copy=False).reshape(len(table), *shape)


def write_tasks(path: Path, tasks: list[str]) -> None:
    """tasks.parquet as pandas reads it: an index 'task', a column 'task_index'."""
    pa = arrow()
    word, number = {"pandas_type": "unicode", "numpy_type": "object"}, {"pandas_type": "int64", "numpy_type": "int64"}
    columns = [{"name": n, "field_name": n, "metadata": None, **k} for n, k in (("task_index", number), ("task", word))]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    table = pa.table({"task_index": pa.array(np.arange(len(tasks))), "task": pa.array(tasks)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json. Raises DatasetError when it is not there, or of another layout than v3."""
    try:
        info = json.loads((root / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"'{root}' is no LeRobot dataset: {INFO} cannot be read ({error})") from error
    version = str(info.get("codebase_version", ""))
    if not version.startswith("v3"):
        raise DatasetError(
            f"'{root}' has LeRobot's layout {version or 'of no version'}; {VERSION} is read: convert it with "
            "LeRobot's own script convert_dataset_v21_to_v30"
        )
    return info
