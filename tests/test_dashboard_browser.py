"""The dashboard as people see it: in a real Chromium, without a screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from visits import Visit, finished_study, visiting

from fkpsearch.data import Data, load_data
from fkpsearch.ledger import read

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium (Debian: chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives Chromium")
    with playwright.sync_playwright() as drive:
        opened = drive.chromium.launch(executable_path=program, args=QUIET.split())
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page; what goes wrong on it is in ``page.errors``."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.errors = []
    page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda why: page.errors.append(str(why)))
    page.on("response", lambda got: page.errors.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    yield page
    page.close()


@pytest.fixture(scope="module")
def visit(shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    data: Data = load_data(shared_tiny)
    folder = finished_study(tmp_path_factory.mktemp("studies") / "tiny", data)
    with visiting(read(folder), data.faces) as visit:
        yield visit


def test_the_page_of_a_trial_shows_its_faces_its_curve_and_what_it_came_to(page: Any, visit: Visit) -> None:
    page.goto(f"{visit.url}dashboard/studies/1/trials?numbers={visit.best.number}")
    page.wait_for_selector("text=Artifacts")
    page.wait_for_function("document.querySelectorAll('img').length >= 4")  # in the note, and as files
    page.wait_for_function("[...document.images].every(one => one.complete)")
    shown = page.evaluate("[...document.images].map(one => [one.alt, one.naturalWidth])")
    widths = dict(shown)
    # six faces of 192 pixels and 6 between and around them; what SVG says of itself
    assert widths == {"faces.png": 6 + 6 * 198, "curve.svg": 720}
    text = page.inner_text("body")
    assert f"{visit.best.value:.3f} px on validation" in text
    assert {"settings.yaml", "history.csv"} <= set(text.split())
    assert not page.errors


def test_the_page_of_the_study_draws_our_figures_and_has_its_note(page: Any, visit: Visit) -> None:
    page.goto(f"{visit.url}dashboard/studies/1")
    page.wait_for_selector("text=Learning curves")
    page.wait_for_selector("text=Study Artifacts")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 4")
    assert "validation RMSE in px" in page.inner_text("body")
    page.goto(f"{visit.url}dashboard/studies/1/note")
    page.wait_for_selector("text=tiny is not running")
    assert "3" in page.inner_text("table")
    assert not page.errors


def test_a_page_that_tries_to_delete_the_study_is_told_that_it_only_looks(page: Any, visit: Visit) -> None:
    page.goto(f"{visit.url}dashboard/studies/1/note")
    page.wait_for_selector("text=tiny is not running")
    answer = page.evaluate("fetch('/api/studies/1', {method: 'DELETE'}).then(got => got.json())")
    assert answer == {"reason": "this dashboard only looks: it cannot change a study"}
    page.reload()
    page.wait_for_selector("text=tiny is not running")


def test_a_browser_with_the_token_gets_in_and_loses_it_from_its_address(
    browser: Any, visit: Visit, shared_tiny: Path, tmp_path: Path
) -> None:
    data = load_data(shared_tiny)
    folder = finished_study(tmp_path / "tiny", data)
    with visiting(read(folder), token="a-token-of-some-length") as closed:
        page = browser.new_page()
        page.goto(f"{closed.url}dashboard/studies/1")
        page.fill("input[name=token]", "not-the-right-one")
        page.click("button")
        page.wait_for_selector("text=That is not it")
        page.fill("input[name=token]", "a-token-of-some-length")
        page.click("button")
        page.wait_for_selector("text=Hyperparameter Importance")
        assert page.url == f"{closed.url}dashboard/studies/1"
        page.close()
