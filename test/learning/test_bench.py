"""The comparison of policies: its cells, what is done twice (nothing), its table; one real run through the topics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.commands.bench import cells as bench
from difftop_ros.commands.bench import report as bench_report
from difftop_ros.commands.bench.usual import COMPARED, COMPARED_UNNAMED, PROTOCOLS
from difftop_ros.errors import UserError
from difftop_ros.policies import PolicyConfig

SHARED = {"demos": 2, "steps": 3, "batch": 8, "episodes": 2, "horizon": 4, "obs_steps": 1, "replan_every": 2}


def cells(**changes: Any) -> list[bench.Cell]:
    values = {
        "tasks": ["reach", "push"],
        "observations": ["cloud", "state"],
        "policies": ["bc", "difftop"],
        "seeds": [0],
    }
    return bench.all_cells(**{**values, **SHARED, **changes})


def row(cell: bench.Cell, successes: int) -> dict[str, Any]:
    values = {name: getattr(cell, name) for name in bench.KEY}
    return {**values, **dict.fromkeys(bench.RESULT, 1), "successes": successes, "version": "0", "machine": "m"}


def test_joints_alone_are_tried_by_the_first_policy_only() -> None:
    found = [(c.task, c.observation, c.policy) for c in cells()]
    each = [("cloud", "bc"), ("cloud", "difftop"), ("state", "bc")]
    assert found == [(task, *rest) for task in ("reach", "push") for rest in each]


def test_finished_cells_are_not_done_again(tmp_path: Path) -> None:
    table, todo = tmp_path / "rows.csv", cells()
    for cell in todo[:2]:
        bench.append_row(table, row(cell, 1))
    rows = bench.read_rows(table)
    assert bench.unfinished(todo, rows) == todo[2:]
    assert bench.unfinished(cells(steps=4), rows) == cells(steps=4), "another budget is another cell"
    assert len({c.name for c in cells(seeds=[0, 1])}) == len(cells(seeds=[0, 1]))


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has the columns"):
        bench.read_rows(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"replan_every": 5}, "a plan has 4 steps"),
        ({"episodes": 0}, "expected at least 1"),
        ({"observations": ["sound"]}, "expected one of"),
    ],
)
def test_cells_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        cells(**changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("difftop:horizon", "expected NAME=VALUE"),
        ("difftop:nothing=1", "expected NAME=VALUE"),
        ("difftop:cost_width=x", "cost_width is 'x'"),
        ("guess", "policy is 'guess'"),
    ],
)
def test_policies_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        bench.policy_config(text)


def test_options_of_a_policy() -> None:
    config = bench.policy_config("difftop:proximal=1.5,point_widths=8-16,solver=polyak,iterations=3", horizon=7)
    assert config == PolicyConfig(horizon=7, proximal=1.5, point_widths=(8, 16), solver="polyak", iterations=3)


def test_joints_alone_see_nothing_else() -> None:
    contract = bench.cell_contract("push", "state")
    assert list(contract.observations) == ["joints"]
    assert bench.contract_path("push", "state") == bench.contract_path("push", "cloud")
    with pytest.raises(UserError, match="SUITE/TASK"):
        bench.contract_path("kitchen/stir", "cloud")


def test_rates_and_their_intervals() -> None:
    rows = [{"successes": "8", "episodes": "10"}, {"successes": "9", "episodes": "10"}]
    found = bench_report.rate(rows)
    # Wilson's interval of 17 of 20 at 95 %, from its formula solved as a quadratic
    low, high = sorted(_wilson_roots(17, 20))
    assert found.mean == 0.85 and math.isclose(found.low, low) and math.isclose(found.high, high)
    other = bench_report.rate([{"successes": "0", "episodes": "20"}])
    both = bench_report.overall([found, other])
    assert both.mean == pytest.approx(0.425) and both.low < 0.425 < both.high and other.low == 0


def _wilson_roots(good: int, n: int, z: float = 1.959963984540054) -> list[float]:
    p = good / n
    a, b, c = 1 + z * z / n, -(2 * p + z * z / n), p * p
    root = math.sqrt(b * b - 4 * a * c)
    return [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def test_the_table_puts_the_best_policy_first_and_knows_what_is_missing(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    for cell in cells():
        if (cell.task, cell.observation) != ("push", "state"):
            bench.append_row(table, row(cell, 2 if cell.policy == "difftop" else 1))
    rows = bench.read_rows(table)
    lines = bench_report.markdown(rows).splitlines()
    assert lines[2].startswith("| difftop | cloud | 100 (34–100) | 100 (34–100) | 100")
    assert lines[3].startswith("| bc | cloud | 50 ")
    assert "| bc | state |" in lines[4] and "(1 of 2)" in lines[4]
    assert bench_report.plot(rows, tmp_path / "plot.png").stat().st_size > 5000


def test_what_is_unusual_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from difftop_ros.cli import main

    usual = bench.Cell("push", "image", "bc", seed=0, **SHARED | COMPARED_UNNAMED | {"scene": "fixed"})
    others = [dataclasses.replace(usual, obs_steps=1), dataclasses.replace(usual, batch=64, horizon=16)]
    assert len({cell.name for cell in (usual, *others)}) == 3 and others[0].name == f"{usual.name}_obs-steps-1"
    table = tmp_path / "rows.csv"
    for cell in (usual, *others, dataclasses.replace(usual, observation="cloud", policy="difftop")):
        bench.append_row(table, row(cell, 1))
    words = ["bench", "imitation", "--report", "--csv", str(table), "--out", str(tmp_path)]
    shown = {(): 4, ("--observations", "image"): 3, ("--obs-steps", "1"): 1, ("--policies", "difftop"): 1}
    for more, count in shown.items():
        assert main([*words, *more]) == 0
        assert sum("50 (9–91)" in line for line in capsys.readouterr().out.splitlines()) == count, more
    assert main(words) == 0
    lines = capsys.readouterr().out
    for label in ("| bc | image |", "| bc | image, obs_steps 1 |", "| bc | image, batch 64, horizon 16 |"):
        assert label in lines


@pytest.mark.parametrize("scene", ["moved", "hand"])
def test_scenes_depend_on_the_hand_where_it_is_known(scene: str) -> None:
    found = cells(tasks=["metaworld/push-v3", "push"], observations=["cloud", "image", "state"], scene=scene)
    known = {(cell.task, cell.observation) for cell in found if cell.scene == scene}
    assert known == {("metaworld/push-v3", "cloud")}
    for cell in found:
        settings = bench.train_settings(cell, (8, 8, 8))
        moved = cell.scene == "moved"
        assert settings.augment.reach == (dict.fromkeys(("hand_x", "hand_y"), bench.SHIFT_M) if moved else {})
        assert settings.policy.cloud_origin == ("hand_x,hand_y,hand_z" if cell.scene == "hand" else "")
    assert len({cell.name for cell in [*found, *cells(tasks=["metaworld/push-v3"], scene="fixed")]}) == len(found) + 2
    with pytest.raises(UserError, match=r"'push' \(cloud\) has no cloud and known hand"):
        bench.Cell("push", "cloud", "bc", seed=0, scene=scene, **SHARED)


def test_a_report_of_some_tasks_leaves_the_others_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from difftop_ros.cli import main

    table = tmp_path / "rows.csv"
    for cell in cells():
        bench.append_row(table, row(cell, 1))
    words = ["bench", "imitation", "--report", "--csv", str(table), "--out", str(tmp_path), "--tasks"]
    assert main([*words, "push"]) == 0
    shown = capsys.readouterr().out
    assert "| push, " in shown and "reach" not in shown
    assert main([*words, "push", "--steps", "3", "--scene", "fixed"]) == 0
    assert capsys.readouterr().out == shown
    assert main([*words, "push", "--steps", "4"]) == 2
    assert "has no rows of tasks push, steps 4 yet" in capsys.readouterr().err
    for cell in cells(tasks=["metaworld/push-v3"], scene="hand"):
        bench.append_row(table, row(cell, 1))
    assert main([*words, "metaworld/push-v3", "--scene", "hand"]) == 0
    shown = capsys.readouterr().out
    assert "| bc | cloud |" in shown and "| bc | state |" in shown, "which has no other scene"
    assert main([*words, "metaworld/push-v3", "--scene", "fixed"]) == 0
    shown = capsys.readouterr().out
    assert "| bc | state |" in shown and "cloud" not in shown
    for cell in cells(tasks=["metaworld/push-v3"], observations=["cloud"], scene="fixed"):
        bench.append_row(table, row(cell, 1))
    assert main([*words, "metaworld/push-v3"]) == 0
    shown = capsys.readouterr().out
    assert "| bc | cloud |" in shown and "| bc | cloud, fixed |" in shown
    assert main([*words, "lift"]) == 2
    assert "has no rows of tasks lift yet" in capsys.readouterr().err


def test_a_protocol_by_name_sets_what_is_not_given() -> None:
    asked = {"tasks": ["metaworld/push-v3"], "seeds": [0], "episodes": 7}
    (cell,) = bench.all_cells(**COMPARED | COMPARED_UNNAMED | PROTOCOLS["dp3"] | asked)
    assert (cell.policy, cell.horizon, cell.replan_every, cell.obs_steps) == ("diffusion", 16, 8, 2)
    assert cell.scene == "fixed"
    assert (cell.demos, cell.episodes, cell.points) == (10, 7, 512)
    assert cell.stay_steps / 20 > 60, "more than any episode's longest duration: demonstrations have their full length"
    settings = bench.train_settings(dataclasses.replace(cell, points=1024), (64, 64, 128))
    assert settings.lr == 1e-4 and settings.ema and settings.keep_checkpoints == 5 and settings.validation == 0
    assert settings.steps / settings.checkpoint_every > 5
    assert not any(value for value in settings.augment.to_dict().values())
    assert bench.cell_contract(cell.task, "cloud", 1024).to_dict()["observations"]["cloud"]["points"] == 1024
    ours = bench.train_settings(dataclasses.replace(cell, protocol="ours"), (64, 64, 128))
    assert ours.keep_checkpoints == 2 and ours.lr == 1e-3 and ours.augment.joint_noise
    with pytest.raises(UserError, match="protocol is 'mine'"):
        dataclasses.replace(cell, protocol="mine")


def test_the_best_of_five_stands_beside_the_last(tmp_path: Path) -> None:
    for cell in cells():
        bench.append_row(tmp_path / "rows.csv", {**row(cell, 1), "best_of_five": 2 if cell.policy == "difftop" else ""})
    text = bench_report.markdown(bench.read_rows(tmp_path / "rows.csv"))
    assert "the best of the last five on these starts: difftop on reach, seed 0: 1 and 2 of 2; difftop on push" in text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_protocol_from_nothing(tmp_path: Path) -> None:
    from difftop_ros.cli import main

    words = ["bench", "imitation", "--protocol", "dp3", "--tasks", "reach", "--policies", "bc", "--seeds", "0"]
    words += ["--demos", "2", "--steps", "15", "--batch", "8", "--episodes", "1", "--points", "64"]
    words += ["--stay-steps", "5"]
    words += ["--csv", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (found,) = bench.read_rows(tmp_path / "rows.csv")
    assert found["protocol"] == "dp3" and int(found["best_of_five"]) >= int(found["successes"])
    (kept,) = (tmp_path / "out/cells").glob("*/checkpoints")
    assert len(list(kept.iterdir())) == 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_comparison_from_nothing_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from difftop_ros.cli import main

    words = ["bench", "imitation", "--tasks", "reach", "--policies", "bc", "difftop:iterations=2", "--seeds", "0"]
    words += ["--observations", "cloud", "--demos", "2", "--steps", "2", "--batch", "8", "--episodes", "1"]
    words += ["--csv", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out"), "--workers", "2"]
    assert main(words) == 0
    rows = bench.read_rows(tmp_path / "rows.csv")
    assert sorted(r["policy"] for r in rows) == ["bc", "difftop:iterations=2"]
    for found in rows:
        cell = tmp_path / "out/cells" / bench.Cell(**{k: type_of(k)(found[k]) for k in bench.KEY}).name
        assert (cell / "model.safetensors").is_file() and (cell / "rollout.mp4").stat().st_size > 1000
        assert float(found["plan_ms_p50"]) > 0 and int(found["parameters"]) > 1000
    assert main(words) == 0
    assert bench.read_rows(tmp_path / "rows.csv") == rows
    assert "2 of them done before" in capsys.readouterr().out


def type_of(name: str) -> type:
    return str if name in ("task", "observation", "policy", "scene", "protocol") else int
