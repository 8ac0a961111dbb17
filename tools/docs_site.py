"""Hooks of the documentation's site (mkdocs.yml): pages from outside docs/, links, formulas, the API's docstrings.

Pages are written for the repository, where links lead to any file. In the site, links between its pages are bent to
where the pages lie there, and links to other files of the repository become plain text.
"""

from __future__ import annotations

import posixpath
import re
from html import unescape
from pathlib import Path
from typing import Any

from griffe import Extension, Module, Object
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {  # file of the repository -> page of the site
    "benchmarks/RESULTS.md": "results.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "QUALITY_DECLARATION.md": "quality_declaration.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
OUTSIDE_OF_CODE = r"(?=(?:[^`]*`[^`]*`)*[^`]*$)"
STAR = re.compile(r"\*" + OUTSIDE_OF_CODE)
UNIT = re.compile(r"\](\s?)\[" + OUTSIDE_OF_CODE)  # `rows [x, y] [m]` would be a link
FIELD = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")


def rooms() -> list[str]:
    """The packages whose API is shown: all but the command line's."""
    packages = sorted(path.parent.name for path in (ROOT / "difftop_ros").glob("*/__init__.py"))
    return [name for name in packages if name != "commands"]


def on_config(config: Any) -> Any:
    """Put the API into the menu."""
    config.nav.append({"API": [{room: f"api/{room}.md"} for room in rooms()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie in docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=f"# {room}\n\n::: difftop_ros.{room}\n"))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Bend the links of a page, but not what looks like one in code."""
    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(lambda match: bent(match, page.file.src_uri), part) for part in parts[::2]]
    return "".join(parts)


def bent(match: re.Match[str], page: str) -> str:
    """One link of `page` as it must be in the site."""
    image, label, target = match.groups()
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"\w+:", path):
        return match[0]
    source = next((source for source, name in OUTSIDE.items() if name == page), f"docs/{page}")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    place = OUTSIDE.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
    if place is None:
        return label
    return f"{image}[{label}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{hash_sign}{anchor})"


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw by themselves."""
    return FORMULA.sub(lambda match: mathml(unescape(match[2]).strip(), match[1] == "div"), html)


def mathml(formula: str, display: bool) -> str:
    """LaTeX as MathML. What the converter does not know is written otherwise; norms keep their size."""
    formula = formula.replace(r"\arg\min", r"\mathop{\mathrm{arg\,min}}")
    formula = formula.replace(r"\lVert", r"\|").replace(r"\rVert", r"\|")
    return convert(formula, display="block" if display else "inline")


class Docstrings(Extension):
    """What differs between our docstrings and Markdown: lines `name  meaning` are a list, stars and units are text."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = STAR.sub(r"\\*", listed(obj.docstring.value))
            obj.docstring.value = UNIT.sub(r"]\1&#91;", text)
        if isinstance(obj, Module):  # what a package exports is shown once, where it is defined
            obj.exports = None


def listed(text: str) -> str:
    """Lines `name  meaning` (two spaces or more; several in one line after `;  `) as a Markdown list."""
    lines, inside = [], False
    for line in text.splitlines():
        fields = [FIELD.fullmatch(part) for part in line.strip().split(";  ")]
        if all(fields):
            if not inside:
                lines.append("")
            lines += [f"- `{found[1]}`: {found[2]}" for found in fields if found]
            inside = True
        else:
            inside = inside and bool(line.strip())
            lines.append(f"  {line.strip()}" if inside else line)
    return "\n".join(lines)
