"""Small helpers for writing XML: numbers and elements that look the same on every machine."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any


def number(value: float) -> str:
    """Up to nine digits; what is nought but for rounding is 0."""
    return f"{0.0 if abs(value) < 1e-12 else value:.9g}"


def numbers(values: Iterable[float]) -> str:
    """Numbers with blanks between."""
    return " ".join(number(float(v)) for v in values)


def add(parent: ET.Element, tag: str, content: Any = None, **attributes: str) -> ET.Element:
    """A child of `parent`; content: text, a number, a truth value or several numbers."""
    child = ET.SubElement(parent, tag, attributes)
    if isinstance(content, bool):
        child.text = "true" if content else "false"
    elif isinstance(content, (int, float)):
        child.text = number(content)
    elif content is not None:
        child.text = content if isinstance(content, str) else numbers(content)
    return child


def text(root: ET.Element, comment: str) -> str:
    """The document with a comment before its root."""
    ET.indent(root, " ")
    return f'<?xml version="1.0"?>\n<!-- {comment} -->\n{ET.tostring(root, encoding="unicode")}\n'
