"""The documentation against the code: commands, options, make targets, launch arguments, links, parameters, defaults.

Lives here: what can be compared without running a command. Not here: whether the prose is true.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from difftop_ros.contract import model
from difftop_ros.nodes.policy import parameters as policy_params
from difftop_ros.nodes.simulation.mujoco import parameters as sim_parameters

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
# Contract sections by the heading (its last words) under which docs/contract.md has their table.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Contract": ("Top level",),
    "Command": ("`command`",),
    "JointLimits": ("`command.joints`",),
    "JointStateObs": ("Every observation", "`kind: joint_state`"),
    "ImageObs": ("Every observation", "`kind: image`"),
    "PointCloudObs": ("Every observation", "`kind: point_cloud` and `kind: depth_cloud`"),
    "DepthCloudObs": (
        "Every observation", "`kind: point_cloud` and `kind: depth_cloud`", "Only `kind: depth_cloud`",
    ),
    "Transform": ("`transform`",),
    "Crop": ("`crop`",),
    "Outliers": ("`outliers`",),
    "Episode": ("`episode`",),
    "SimSection": ("`sim`",),
}  # fmt: skip


def on_pages(test: Any) -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)(test)


def shell_lines(text: str) -> Iterator[str]:
    """Command lines of the page: of its bash blocks, and inline code that begins with a command of ours."""
    for language, block in FENCE.findall(text):
        if language == "bash":
            yield from block.replace("\\\n", " ").splitlines()
    for code in CODE.findall(FENCE.sub("", text)):
        if re.match(r"(difftop|make|ros2) \S", code):
            yield code


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of the page; comments and `. activate &&` prefixes are left out."""
    for line in shell_lines(text):
        words = shlex.split(line, comments=True)
        while words:
            end = next((i for i, word in enumerate(words) if word in ("&&", "|", ";")), len(words))
            if end:
                yield words[:end]
            words = words[end + 1 :]


@functools.cache
def verb_parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"difftop {verb}")
    importlib.import_module(f"difftop_ros.commands.{verb}").add_arguments(parser)
    return parser


def resolve(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser for `difftop words...` (of the job, where the verb has jobs) and the words left for it."""
    from difftop_ros.cli import VERBS

    words = [word for word in words if word != "--debug"]
    assert words[0] in VERBS, f"no verb {words[0]!r}"
    parser, rest = verb_parser(words[0]), words[1:]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and rest and not rest[0].startswith("-"):
            assert rest[0] in action.choices, f"difftop {words[0]} has no job {rest[0]!r}"
            return action.choices[rest[0]], rest[1:]
    return parser, rest


def assigned(words: list[str]) -> list[str]:
    """Names in NAME:=VALUE."""
    return [word.partition(":=")[0] for word in words if ":=" in word]


@on_pages
def test_every_difftop_command_exists(page: Path):
    for words in commands(page.read_text()):
        if words[0] != "difftop" or words[1:] in (["--help"], ["--version"], ["VERB", "--help"]):
            continue
        shown = " ".join(words)
        parser, rest = resolve(words[1:])
        known = {option for action in parser._actions for option in action.option_strings}
        for word in rest:
            if word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
                assert word.partition("=")[0] in known, f"{shown!r}: no option {word}"
        if words[1] in ("run", "demo", "sim"):
            declared = sim_parameters.PARAMETERS if words[1] == "sim" else policy_params.PARAMETERS
            assert set(assigned(rest)) <= {parameter.name for parameter in declared}, shown


@on_pages
def test_whole_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]):
    for language, block in FENCE.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines() if language == "bash" else []:
            words = shlex.split(line, comments=True)
            if words[:1] == ["difftop"] and "--help" not in words and "…" not in line:
                parser, rest = resolve(words[1:])
                try:
                    parser.parse_args(rest)
                except SystemExit:
                    pytest.fail(f"{page.name}: {line!r}: {capsys.readouterr().err}")


@on_pages
def test_options_named_in_the_text_exist(page: Path):
    from difftop_ros.cli import VERBS

    parsers = [verb_parser(verb) for verb in VERBS]
    for parser in list(parsers):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    known = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    foreign = {"--debug", "--help", "--version", "--show-args", "--clock", "--ipc=host"}
    for code in CODE.findall(FENCE.sub("", page.read_text())):
        if code.startswith("--"):
            assert code.split()[0] in known | foreign, f"{page.name}: no verb of difftop has {code!r}"


@on_pages
def test_make_targets_and_launch_arguments_exist(page: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page.read_text()):
        if words[0] == "make":
            assert {word for word in words[1:] if re.fullmatch(r"[a-z]+", word)} <= targets, words
        if words[:3] == ["ros2", "launch", "difftop_ros"]:
            assert set(assigned(words)) <= launch_arguments(words[3]), words


def launch_arguments(name: str) -> set[str]:
    tree = ast.parse((ROOT / "launch" / name).read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return {ast.literal_eval(c.args[0]) for c in calls if c.func.id == "DeclareLaunchArgument"}  # type: ignore[attr-defined]


@on_pages
def test_links_and_pictures_lead_somewhere(page: Path):
    astray = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not re.match(r"https?:", target) and not (path.exists() and (not anchor or anchor in anchors(path))):
            astray.append(target)
    assert not astray, f"{page.name} links to what is not there"


def anchors(path: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@on_pages
def test_files_named_in_code_exist(page: Path):
    """Shipped files in inline code: config/..., tools/..., difftop_ros/..., and our message and service types."""
    for code in CODE.findall(page.read_text()):
        for word in code.split():
            if interface := re.fullmatch(r"difftop_ros/((msg|srv)/\w+)", word):
                word = f"{interface[1]}.{interface[2]}"
            if re.fullmatch(r"(config|launch|tools|test|benchmarks|msg|srv|difftop_ros|\.ci)/[\w./-]+", word):
                assert (ROOT / word).exists(), f"{page.name}: {word} does not exist"


def table_rows(text: str) -> Iterator[list[str]]:
    """Cells of every table row whose first cell is one name in code."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) > 2 and re.fullmatch(r"`[\w-]+`", cells[0]):
            yield [cells[0].strip("`"), *cells[1:]]


def heading_part(text: str, end: str) -> str:
    """What stands below the one heading that ends with `end`, up to the next heading."""
    found = [part for part in re.split(r"^#+ ", text, flags=re.MULTILINE) if part.partition("\n")[0].endswith(end)]
    assert len(found) == 1, f"{len(found)} headings end with {end!r}"
    return found[0]


def test_readme_parameters_are_those_of_the_node():
    shipped = yaml.safe_load((ROOT / "config/policy_node.yaml").read_text())
    values = shipped["/**"]["ros__parameters"]
    table = {param.name: param for param in policy_params.PARAMETERS}
    rows = list(table_rows(heading_part((ROOT / "README.md").read_text(), "Parameters of the policy node")))
    assert len(rows) >= 10
    for name, kind, unit, default, meaning in rows:
        assert name in values, f"README names the parameter {name}, which does not exist"
        assert yaml.safe_load(default.strip("`")) == values[name], f"README's default of {name}"
        assert kind == type(values[name]).__name__.replace("str", "string") and unit == table[name].unit, name
        assert meaning


@pytest.mark.parametrize("name", SECTIONS)
def test_contract_page_has_every_field_with_its_default(name: str):
    fields = getattr(model, name).model_fields
    page = (ROOT / "docs/contract.md").read_text()
    rows = {row[0]: row for heading in SECTIONS[name] for row in table_rows(heading_part(page, heading))}
    assert set(rows) == set(fields), f"docs/contract.md and {name} differ"
    for field, info in fields.items():
        shown = rows[field][3]
        if info.is_required():
            assert shown in ("required", "by kind"), f"{name}.{field} is required"
        elif shown.startswith("`"):
            default = info.get_default(call_default_factory=True)
            plain = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(shown.strip("`")) == plain, f"{name}.{field}"
        else:
            assert shown in ("see below", "by kind"), f"{name}.{field} has a default"


def test_every_contract_section_is_documented():
    sections = {n for n, v in vars(model).items() if isinstance(v, type) and issubclass(v, model._Section)}
    assert {n for n in sections if not n.startswith("_")} == set(SECTIONS)


def test_contract_page_shows_the_shipped_example():
    shown = [block for language, block in FENCE.findall((ROOT / "docs/contract.md").read_text()) if language == "yaml"]
    assert (ROOT / "config/ur_like_example.yaml").read_text() in shown


def test_training_page_has_the_options_with_their_defaults():
    from difftop_ros.learning.defaults import OPTIONS

    defaults = dataclass_defaults("difftop_ros/policies/config.py") | dataclass_defaults(
        "difftop_ros/learning/settings.py"
    )
    defaults |= dataclass_defaults("difftop_ros/learning/imitation/augment.py")
    rows = re.findall(r"^\| `--([\w-]+)` \| `([^`]+)` \|", (ROOT / "docs/training.md").read_text(), re.MULTILINE)
    shown = {name.replace("-", "_"): yaml.safe_load(value) for name, value in rows}
    assert set(shown) == {name for options in OPTIONS.values() for name in options}
    assert {name: defaults[name] for name in shown} == shown


def dataclass_defaults(path: str) -> dict[str, Any]:
    """Literal defaults of the annotated fields in a file, read without importing torch."""
    found = {}
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            try:
                found[node.target.id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def test_pages_are_short_and_name_no_unfinished_work():
    for page in PAGES:
        text = page.read_text()
        assert len(text.splitlines()) < 250, f"{page.name} is too long"
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), page.name
