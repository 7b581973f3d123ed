"""One self-contained HTML page of sections with figures, pictures and tables: nothing is fetched from anywhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fkpsearch import __version__
from fkpsearch.errors import InputError, Problem
from fkpsearch.plain import writing

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STYLE = Path(__file__).with_name("page.css")

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "displayModeBar": False,
    "scrollZoom": False,
    "doubleClick": "reset",
}
"""Of plotly.js. Its mode bar would cover a figure on a phone."""


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    id: str
    title: str
    body: str
    """HTML"""


def chart(figure: Figure, name: str, words: str = "", *, swipe: bool = False) -> str:
    """A figure with the sentence that says how to read it; one to ``swipe`` stays wide on a phone."""
    inner = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG, div_id=f"figure-{name}")
    inner = f'<div class="swipe"><div class="wide">{inner}</div></div>' if swipe else inner
    return f"<figure>{inner}{caption(words)}</figure>"


def caption(words: str) -> str:
    """The sentence under a figure; ``words`` may have HTML."""
    return f"<figcaption>{words}</figcaption>" if words else ""


def plain(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text))


def pictures(tiles: Iterable[tuple[str, str]], words: str) -> str:
    """Pictures (HTML) in a grid, each with its own words, and a sentence below them all."""
    grid = "".join(f"<div>{picture}<small>{plain(text)}</small></div>" for picture, text in tiles)
    return f'<figure><div class="faces">{grid}</div>{caption(words)}</figure>'


def plate(uri: str, alt: str, words: str) -> str:
    """One wide picture and its sentence."""
    return f'<figure class="plate"><img src="{uri}" alt="{plain(alt)}">{caption(words)}</figure>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]], marked: Sequence[int] = ()) -> str:
    """A table; numbers, and columns named ``>x``, are aligned right; rows ``marked`` stand out."""
    right = [name.startswith(">") for name in head]

    def line(tag: str, cells: Sequence[object], style: str = "") -> str:
        inner = (f"<{tag}{' class=n' if r else ''}>{plain(cell)}</{tag}>" for cell, r in zip(cells, right, strict=True))
        return f"<tr{style}>{''.join(inner)}</tr>"

    body = "".join(line("td", row, " class=mark" if n in marked else "") for n, row in enumerate(rows))
    top = line("th", [name.lstrip(">") for name in head])
    return f'<div class="swipe"><table><thead>{top}</thead>{body}</table></div>'


def cards(facts: Iterable[tuple[str, str, str]]) -> str:
    """Large numbers: what, number, a word on it."""
    return '<div class="cards">' + "".join(
        f"<div><span>{plain(what)}</span><b>{plain(number)}</b><small>{plain(word)}</small></div>"
        for what, number, word in facts
    ) + "</div>"  # fmt: skip


def more(title: str, body: str) -> str:
    """What is folded away until somebody asks."""
    return f"<details><summary>{plain(title)}</summary>{body}</details>"


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page; ``lead`` is HTML."""
    from plotly.offline import get_plotlyjs

    links = "".join(f'<a href="#{one.id}">{plain(one.title)}</a>' for one in sections)
    body = "".join(f'<section id="{one.id}"><h2>{plain(one.title)}</h2>{one.body}</section>' for one in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="fkpsearch {__version__}">
<title>{plain(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE.read_text(encoding="utf-8")}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<nav><b>{plain(title)}</b>{links}</nav>
<main><header><h1>{plain(title)}</h1>{lead}</header>{body}</main>
</body>
</html>
"""


def write_page(path: Path, text: str) -> None:
    """The file, whole or not at all. Raises InputError where it cannot be written."""
    try:
        with writing(path) as file:
            file.write(text)
    except OSError as why:
        raise InputError(Problem(str(path), f"cannot be written: {why.strerror or why}")) from None
