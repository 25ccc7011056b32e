"""Docstrings as Markdown: examples that begin with >>> become blocks of code."""

from __future__ import annotations

from typing import Any

import griffe


class Doctests(griffe.Extension):
    """An extension of Griffe that fences the examples of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with each example, up to the next empty line, in a block of its own."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        before, mark, example = paragraph.partition(">>> ")
        if mark and (not before or before.endswith("\n")):
            before = before.rstrip()
            block = "```pycon\n" + (mark + example).rstrip() + "\n```"
            paragraph = f"{before}\n\n{block}" if before else block
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)
