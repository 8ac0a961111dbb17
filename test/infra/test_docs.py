"""The documentation against the code: commands, options, make targets, launch arguments, links, parameters, defaults.

Lives here: what can be compared without running a command. Not here: whether the prose is true.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from difftop_ros.commands.dispatch import module_of
from difftop_ros.contract import clouds, model, observations
from difftop_ros.contract.base import Section
from difftop_ros.nodes.policy import parameters as policy_params
from difftop_ros.nodes.simulation.bridge import parameters as sim_parameters

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("tutorials", "how-to", "reference", "explanation")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/RESULTS.md"])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
# Contract sections by the heading (its last words) under which docs/reference/contract.md has their table.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Contract": ("Top level",),
    "RobotSection": ("`robot`",),
    "Command": ("`command`",),
    "Gripper": ("`command.gripper`",),
    "JointLimits": ("`command.joints`",),
    "JointStateObs": ("Every observation", "`kind: joint_state`"),
    "ToolPoseObs": ("Every observation", "`kind: tool_pose`"),
    "ImageObs": ("Every observation", "`kind: image`"),
    "PointCloudObs": ("Every observation", "`kind: point_cloud` and `kind: depth_cloud`"),
    "DepthCloudObs": (
        "Every observation", "`kind: point_cloud` and `kind: depth_cloud`", "Only `kind: depth_cloud`",
    ),
    "CloudSource": ("`also`",),
    "Transform": ("`transform`",),
    "Crop": ("`crop`",),
    "Outliers": ("`outliers`",),
    "Episode": ("`episode`",),
    "SimSection": ("`sim`",),
}  # fmt: skip

CLASSES: dict[str, type[Section]] = {
    name: value
    for module in (model, clouds, observations)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Section)
}


def on_pages(test: Any) -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))(test)


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
    module_of(verb).add_arguments(parser)
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
def test_every_difftop_command_exists(page: Path) -> None:
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
def test_whole_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_options_named_in_the_text_exist(page: Path) -> None:
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
def test_make_targets_and_launch_arguments_exist(page: Path) -> None:
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
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
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
def test_files_named_in_code_exist(page: Path) -> None:
    """Shipped files in inline code: config/..., tools/..., difftop_ros/..., and our message and service types."""
    for code in CODE.findall(page.read_text()):
        for word in code.split():
            if interface := re.fullmatch(r"difftop_ros/((msg|srv|action)/\w+)", word):
                word = f"{interface[1]}.{interface[2]}"
            if re.fullmatch(
                r"(config|launch|tools|test|benchmarks|examples|msg|srv|action|difftop_ros|\.ci)/[\w./-]+", word
            ):
                assert (ROOT / word).exists(), f"{page.name}: {word} does not exist"


def test_pages_named_by_the_code_exist() -> None:
    for folder in ("difftop_ros", "config", "launch", "benchmarks", "tools", "examples"):
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.yaml")]:
            for name in re.findall(r"docs/[\w/-]+\.md", path.read_text()):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


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


def test_parameters_of_the_page_are_those_of_the_node() -> None:
    shipped = yaml.safe_load((ROOT / "config/policy_node.yaml").read_text())
    values = shipped["/**"]["ros__parameters"]
    table = {param.name: param for param in policy_params.PARAMETERS}
    page = ROOT / "docs/reference/policy_node.md"
    rows = list(table_rows(heading_part(page.read_text(), "Parameters")))
    assert len(rows) >= 10
    for name, kind, unit, default, meaning in rows:
        assert name in values, f"{page} names the parameter {name}, which does not exist"
        assert yaml.safe_load(default.strip("`")) == values[name], f"default of {name}"
        assert kind == type(values[name]).__name__.replace("str", "string") and unit == table[name].unit, name
        assert meaning


@pytest.mark.parametrize("name", SECTIONS)
def test_contract_page_has_every_field_with_its_default(name: str) -> None:
    fields = CLASSES[name].model_fields
    page = (ROOT / "docs/reference/contract.md").read_text()
    rows = {row[0]: row for heading in SECTIONS[name] for row in table_rows(heading_part(page, heading))}
    assert set(rows) == set(fields), f"docs/reference/contract.md and {name} differ"
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


def test_every_contract_section_is_documented() -> None:
    assert set(CLASSES) - {"Section", "Observation", "CloudObs"} == set(SECTIONS)  # those are what others are made of


def test_contract_page_shows_the_shipped_example() -> None:
    shown = [
        block
        for language, block in FENCE.findall((ROOT / "docs/reference/contract_example.md").read_text())
        if language == "yaml"
    ]
    assert (ROOT / "config/ur_like_example.yaml").read_text() in shown


def test_pages_are_short_and_name_no_unfinished_work() -> None:
    for page in PAGES:
        text = page.read_text()
        longest = 250 if page.name != "CHANGELOG.md" else 1000  # which grows with every change
        assert len(text.splitlines()) < longest, f"{page.name} is too long"
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), page.name
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_page_is_of_one_kind_and_says_what_one_gets() -> None:
    pages = set(ROOT.glob("docs/**/*.md")) - {ROOT / "docs/index.md"}
    assert {page.parent.name for page in pages} == set(KINDS)
    for page in pages:
        assert page.parent.parent == ROOT / "docs", page
        assert re.match(r"# .+\n\nWhat you get here: ", page.read_text()), page


def test_the_readme_and_the_index_lead_to_every_page() -> None:
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/*/*.md")}
    for start, prefix in (("README.md", "docs/"), ("docs/index.md", "")):
        linked = re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / start).read_text())
        assert pages <= {link.removeprefix(prefix) for link in linked}, start


def test_results_are_one_page_of_small_tables_with_command_and_date() -> None:
    """At most five tables of at most eight rows; each section names a command of ours and the day it was run."""
    text = (ROOT / "benchmarks/RESULTS.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert 1 <= len(tables) <= 5
    for table in tables:
        assert len(table.splitlines()) - 2 <= 8, table.splitlines()[0]
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"\d{1,2} [A-Z][a-z]+ 20\d\d|20\d\d-\d\d-\d\d", section), section.partition("\n")[0]
        assert re.search(r"(difftop|python -m benchmarks\.)\S* \S", section), section.partition("\n")[0]


def test_benchmarks_named_on_a_page_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"python -m benchmarks\.(\w+)", page.read_text()):
            module = ROOT / "benchmarks" / name
            assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), f"{page.name}: {name}"


def test_the_table_for_newcomers_names_folders_that_exist() -> None:
    part = heading_part((ROOT / "CONTRIBUTING.md").read_text(), "Where is the code that …")
    folders = [
        folder for row in re.findall(r"^\| .* \|$", part, re.MULTILINE) for folder in CODE.findall(row.split("|")[-2])
    ]
    assert len(folders) > 10
    named = {folder.split("/")[0] for folder in folders}
    for folder in folders:
        assert folder == "difftop_ros/" or (ROOT / "difftop_ros" / folder / "__init__.py").exists(), folder
    rooms = {path.parent.name for path in (ROOT / "difftop_ros").glob("*/__init__.py")}
    assert rooms <= named, "every room answers a question"
    architecture = (ROOT / "docs/explanation/architecture.md").read_text()
    assert rooms == set(re.findall(r"^\| `(\w+)` \|", architecture, re.MULTILINE))
