"""The documentation's site as a reader meets it: built as CI builds it, its pages read by a parser of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer.main
import yaml
from mkdocs.exceptions import PluginError

from fkpsearch.cli import app

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Page(HTMLParser):
    """A page's links, anchors, what it loads, and its words."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in ("script", "img", "iframe") and "src" in values:
            self.loads.append(values["src"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loads.append(values["href"])

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with warnings as errors, and without a way to any network."""
    folder = tmp_path_factory.mktemp("site")
    away = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, **away, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {}
    for path in site.rglob("*.html"):
        found[path] = Page()
        found[path].feed(path.read_text())
    return found


def test_every_link_leads_to_a_place_that_is_there(pages: dict[Path, Page]) -> None:
    ways = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert there.is_file(), f"{path.name} links to {link}"
            if parts.fragment and there.suffix == ".html":
                assert unquote(parts.fragment) in pages[there].anchors, f"{path.name} links to {link}"
            ways += 1
    assert ways > 500


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    loads = {load for page in pages.values() for load in page.loads}
    assert loads
    assert not [load for load in loads if urlsplit(load).netloc]
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles)


def test_every_page_of_the_docs_is_in_the_menu(site: Path) -> None:
    menu = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)["nav"]
    flat = re.findall(r"[\w/]+\.md", str(menu))
    assert sorted(flat) == sorted(file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md"))
    assert len(flat) == len(set(flat))


def test_what_the_readme_says_stands_in_the_pages_that_include_it(site: Path, pages: dict[Path, Page]) -> None:
    readme = (ROOT / "README.md").read_text()
    for page, beginning in {
        "quickstart": "finds the faces in photographs of any size with MTCNN",
        "grammar": "A settings file is a search space with no ranges left.",
        "searching": "Winners that cannot be rerun.",
    }.items():
        assert beginning in readme
        assert beginning in pages[site / f"{page}.html"].words
    assert not [path for path in pages if "<!-- readme" in path.read_text()]


def test_settings_stand_there_with_their_limits(site: Path) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", (site / "settings.html").read_text(), re.DOTALL)
    cells = [
        [unescape(re.sub(r"<.*?>", "", cell)) for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)] for row in rows
    ]
    for row in (
        ["dropout", "number ≥ 0 < 1", "0.0"],
        ["blocks", "whole ≥ 1 ≤ 6", "5"],
        ["learning_rate", "number > 0 ≤ 1", "0.001"],
        ["input_size", "96, 48", "96"],
        ["reduction_factor", "whole ≥ 2", "3"],
    ):
        assert row in [cell[:3] for cell in cells], row


def test_every_command_is_described(site: Path, pages: dict[Path, Page]) -> None:
    words = pages[site / "commands.html"].words
    group = typer.main.get_command(app)
    names = list(getattr(group, "commands", {}))
    assert "export" in names
    assert [name for name in names if f"fkpsearch {name}" not in words] == []


def commands_in(text: str) -> list[list[str]]:
    """The command lines that stand in blocks of code, but for their remarks."""
    blocks = re.findall(r"^(?:```\w*\n(.*?)^```|((?: {4}.*\n)+))", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if re.match(r"\s*fkpsearch ", line)]


def test_every_command_that_is_shown_is_one_that_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FKPSEARCH_STORAGE", "postgresql://somebody@host/faces")
    files = [ROOT / "README.md", *(file for file in (ROOT / "docs").rglob("*.md") if file.name != "LOG.md")]
    shown = [words for file in files for words in commands_in(file.read_text())]
    assert len(shown) > 25
    for words in shown:
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(words[0], rest)


def test_the_functions_are_described_from_their_docstrings(site: Path, pages: dict[Path, Page]) -> None:
    words = " ".join(pages[site / "api.html"].words.split())
    assert "How many finished trials the study shall have, earlier ones included." in words
    assert "def " not in words, "sources are not shown"


def test_a_section_that_the_readme_no_longer_has_stops_the_build() -> None:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec
    assert spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    with pytest.raises(PluginError, match=r"README\.md has no section 'Nowhere'"):
        hooks.on_page_markdown("<!-- readme: Nowhere -->")
