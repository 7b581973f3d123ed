"""The report: a made study of real files, its page as a person's browser has it, and every bad input in one line."""

from __future__ import annotations

import json
import shutil
import sqlite3
import webbrowser
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Call, caller, write_tiny
from made_study import Recipe, make_study, write_holdout
from optuna.trial import TrialState

from fkpsearch import importance
from fkpsearch import report as report_module
from fkpsearch.confirm import Confirmation, Confirmed
from fkpsearch.curves import value_of
from fkpsearch.data import load_data
from fkpsearch.ensemble import Ensemble, Member, write_ensemble
from fkpsearch.ledger import read
from fkpsearch.sequels import confirmed, ensemble, sequels
from fkpsearch.space import parse_space, presets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]

SPACE = """
model:
  kind: cnn
  input_size: 48
  heads: {choice: [population, one]}
  width: {choice: [8, 10, 12]}
  activation: {variant: {relu: {}, leaky_relu: {alpha: {float: [0.02, 0.3]}}}}
augment: {flip: 0.5, rotation: {float: [5, 25]}}
training:
  epochs: 6
  optimizer: {kind: adam, learning_rate: {float: [1e-3, 6e-3], log: true}}
split: {validation: 0.3, holdout: 0.1}
study:
  sampler: {kind: random}
  pruner: {kind: asha, min_epochs: 3, reduction_factor: 2}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of 56 trials, more than 20 of them complete; its data lies in ``data`` beside it."""
    home = tmp_path_factory.mktemp("report")
    (home / "data").mkdir()
    write_tiny(home / "data")
    ledger = make_study(parse_space(SPACE, "space.yaml"), Recipe(56, load_data(home / "data"), home / "study"))
    assert len(ledger.best(100)) >= 20
    assert ledger.study.trials[7].state is TrialState.FAIL
    return ledger.folder


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    """The report of that study."""
    return report_module.write_report(read(made), command="fkpsearch report study").read_text()


@pytest.fixture(autouse=True)
def _few_draws(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the page that is looked at in earnest."""
    monkeypatch.setattr(importance, "DRAWS", 3)


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A copy of the study of the test's own; its data stays where it is."""
    return Path(shutil.copytree(made, tmp_path / "study"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@dataclass
class Seen:
    """What a browser came to."""

    words: list[str] = field(default_factory=list)
    """Of its console: errors and warnings"""
    requests: list[str] = field(default_factory=list)
    """Whatever is no file and no data in the page"""
    figures: dict[str, int] = field(default_factory=dict)
    """Marks drawn in each figure"""
    width: int = 0
    """Pixels that the page wants"""


MARKS = """
() => Object.fromEntries([...document.querySelectorAll('.plotly-graph-div')].map(figure => [figure.id,
  [...figure.querySelectorAll('.overplot .mlayer path, .overplot .mlayer image')]
    .filter(mark => { const box = mark.getBoundingClientRect(); return box.width + box.height > 0; }).length]))
"""
"""Of each figure: how many lines, dots, bars and images of data are there and have a size"""

DRAWN = "[...document.querySelectorAll('.plotly-graph-div')].every(one => one.querySelector('.overplot'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


def look(browser: Any, path: Path, width: int, picture: Path, scheme: str = "light") -> Seen:
    """Open a page in a window so many pixels wide, and take its picture."""
    seen = Seen()
    window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = window.new_page()
    tab.on("console", lambda said: seen.words.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda why: seen.words.append(str(why)))
    tab.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or seen.requests.append(asked.url))
    tab.goto(path.resolve().as_uri())
    tab.wait_for_function(DRAWN)
    seen.figures = tab.evaluate(MARKS)
    seen.width = tab.evaluate("document.documentElement.scrollWidth")
    tab.screenshot(path=str(picture), full_page=True)
    window.close()
    return seen


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_draws_every_figure_at_any_width_and_fetches_nothing(
    width: int, scheme: str, browser: Any, page: str, made: Path, tmp_path: Path
) -> None:
    seen = look(browser, made / "report.html", width, tmp_path / f"report-{width}.png", scheme)
    assert seen.words == []
    assert seen.requests == []
    assert seen.width <= width, "nothing has to be scrolled sideways"
    wanted = "time compute curves importance-finished importance-common by-keypoint parallel contour timeline map-full"
    assert {f"figure-{name}" for name in (*wanted.split(), "map-sparse", "slice-0", "slice-4")} <= set(seen.figures)
    assert not [name for name, marks in seen.figures.items() if not marks], "figures without a mark"
    assert (tmp_path / f"report-{width}.png").stat().st_size > 50_000


def test_the_page_says_what_the_study_came_to(page: str, made: Path) -> None:
    ledger = read(made)
    best = ledger.best()[0]
    assert f"{best.value:.3f} px" in page
    assert f"{ledger.facts.mean_rmse:.3f} px" in page
    assert "hold-out</span><b>not yet</b>" in page
    assert "out of memory" in page, "why trial 7 failed"
    assert page.count('<svg class="face"') >= 12, "validation faces, and the worst"
    assert "fkpsearch report study" in page, "the command"
    assert "Not enough trials" not in page


def test_nothing_in_the_page_comes_from_elsewhere(page: str) -> None:
    """plotly.js itself has addresses in it, of maps that are not drawn."""
    own = page[: page.index("<script>")] + page[page.index("</script>") :]
    assert 'src="http' not in own
    assert "<link" not in own.replace('<link rel="icon" href="data:,">', "")
    assert "Plotly.newPlot" in own
    assert page.count("plotly.js v") == 1, "plotly is there once"


def test_kaggles_numbers_stand_beside_kaggles_data_only(page: str) -> None:
    assert "2020 deck" not in page


def test_the_holdout_is_told_once_an_export_has_looked_and_whose_it_is(study: Path) -> None:
    ledger = read(study)
    first, second = (trial.number for trial in ledger.best(2))
    write_holdout(ledger, second, 1.911, 3.752)
    text = report_module.write_report(ledger).read_text()
    assert "1.911 px" in text
    assert f"trial {second} 1.911 px (mean keypoint 3.752)" in text
    assert "second validation set" not in text
    write_holdout(ledger, first, 1.901, 3.752)
    text = report_module.write_report(ledger).read_text()
    assert "second validation set" in text, "two have been looked at"
    assert "1.901 px</b>" in text, "the best trial's is on the card"


def test_a_trial_above_the_mean_keypoints_line_is_marked_as_having_learnt_nothing(study: Path) -> None:
    ledger = read(study)
    mean, last = ledger.facts.mean_rmse, ledger.best(100)[-1]
    with closing(sqlite3.connect(study / "study.db")) as database:
        database.execute("UPDATE trial_values SET value = ? WHERE trial_id = ?", (mean + 1, last._trial_id))
        database.commit()
    text = report_module.write_report(read(study)).read_text()
    assert f"1 complete trial has learnt nothing, being above the mean keypoint's line: {last.number}." in text
    row = text[text.index(f">{last.number}</td>") :]
    assert "learnt nothing" in row[: row.index("</tr>")]


def test_few_trials_are_said_to_be_too_few(tmp_path: Path, shared_tiny: Path) -> None:
    recipe = Recipe(8, load_data(shared_tiny), tmp_path / "few", reasons={})
    text = report_module.write_report(make_study(parse_space(SPACE, "space.yaml"), recipe)).read_text()
    assert "Not enough trials: Importance needs 20 that are complete" in text
    assert "figure-contour" not in text
    assert "figure-curves" in text


def test_a_report_is_written_while_somebody_writes_to_the_study(study: Path) -> None:
    with closing(sqlite3.connect(study / "study.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE studies SET study_name = 'y'")
        assert report_module.write_report(read(study)).is_file()
        writer.rollback()


def test_reading_changes_nothing_in_the_study(study: Path) -> None:
    (study / "report.html").unlink()

    def content() -> dict[Path, bytes]:
        return {
            path: path.read_bytes() for path in study.rglob("*") if path.is_file() and not path.name.endswith("-shm")
        }

    before = content()
    report_module.write_report(read(study))
    after = content()
    assert after.pop(study / "report.html")
    assert after == before


def test_data_that_is_gone_costs_the_pictures_only(study: Path, made: Path, call: Call) -> None:
    data = made.parent / "data"
    data.rename(made.parent / "moved")
    try:
        status, out, _ = call("report", study)
        assert status == 0
        text = (study / "report.html").read_text()
        assert "No pictures: " in text
        assert str(data) in text
        assert "figure-curves" in text
        assert '<svg class="face"' not in text
        assert call("report", study, "--data", made.parent / "moved")[0] == 0
        assert '<svg class="face"' in (study / "report.html").read_text(), "named by hand they are found"
    finally:
        (made.parent / "moved").rename(data)
    assert "report.html" in out


def test_answers_that_are_damaged_or_gone_cost_no_report(study: Path) -> None:
    ledger = read(study)
    first, second, *_ = ledger.best(100)
    (ledger.trial_folder(second.number) / "validation.npz").write_bytes(b"half a")
    (ledger.trial_folder(first.number) / "validation.npz").unlink()
    text = report_module.write_report(ledger).read_text()
    assert f"trial {first.number} has no answers" in text
    assert "figure-importance-finished" in text


BAD = {
    "a study without a complete trial": ("UPDATE trials SET state = 'FAIL'", "has no complete trial yet"),
    "a study of a newer version": (
        "UPDATE study_user_attributes SET value_json = '\"99.0.1\"' WHERE key = 'version'",
        "was written by fkpsearch 99.0.1",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_reported_is_one_line_and_status_2(fault: str, study: Path, call: Call) -> None:
    change, line = BAD[fault]
    with closing(sqlite3.connect(study / "study.db")) as database:
        database.execute(change)
        database.commit()
    (study / "report.html").unlink(missing_ok=True)
    status, _, err = call("report", study)
    assert status == 2
    assert line in err
    assert err.count("\n") == 1
    assert not (study / "report.html").exists()


def test_a_named_folder_with_other_data_is_refused(study: Path, tiny: Path, call: Call) -> None:
    rows = (tiny / "training.csv").read_text().splitlines()
    (tiny / "training.csv").write_text("\n".join(rows[:-1]) + "\n")
    status, _, err = call("report", study, "--data", tiny)
    assert status == 2
    assert "is not the data of this study" in err


def test_it_is_opened_in_the_browser_when_asked(study: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert call("report", study, "--open")[0] == 0
    assert opened == [(study / "report.html").resolve().as_uri()]
    assert call("report", study)[0] == 0
    assert len(opened) == 1


def test_the_made_answers_have_the_trials_values(made: Path) -> None:
    """The study that these tests look at is true to itself."""
    ledger, faces = read(made), load_data(made.parent / "data").faces
    best = ledger.best()[0]
    with np.load(ledger.trial_folder(best.number) / "validation.npz") as kept:
        off = kept["predictions"].astype(float) - faces.keypoints[kept["rows"]]
    assert np.sqrt(np.nanmean(np.square(off))) == pytest.approx(value_of(best), abs=1e-3)


CONFIRMED = Confirmation(
    settings=(Confirmed(4, 1.8, (1.85, 1.87), 1.86, 0.01, 0.0, None, None, 0.97, 0.06, 0.01, 0.11),),
    rounds=2, of=3, racing=(4,), decided=True, verdict="trial 4 is the best with 97%", noise=0.02, overlap=0.1,
    seeds=(1, 2), mean_keypoint=(3.9, 3.9), failures=(), trials=12, fingerprint="x",
)  # fmt: skip

TOGETHER = Ensemble(
    members=(Member(4, 3, 0.75, 1.8), Member(9, 1, 0.25, 1.9)),
    rmse=1.7, best_rmse=1.8, honest_gains=(0.05, 0.07), candidates=12, left_out={}, size=10, fingerprint="x",
)  # fmt: skip


def test_what_confirm_and_ensemble_left_is_told() -> None:
    words = confirmed(CONFIRMED)
    assert "trial 4 is the best with 97%." in words
    assert "1.860 ± 0.010" in words
    assert "+0.060 (+0.010 to +0.110)" in words
    words = ensemble(TOGETHER)
    assert "+0.100 px on the faces they were chosen by, by cross-fitting +0.060 px (spread 0.010)" in words
    assert "75%" in words


def test_a_study_without_sequels_has_no_such_section_and_a_damaged_one_says_so(study: Path, page: str) -> None:
    assert 'id="confirm"' not in page
    (study / "confirm.json").write_text(json.dumps(CONFIRMED.plain()))
    (study / "ensemble.json").write_text('{"members": 3}')
    first, second = sequels(study)
    assert (first.id, second.id) == ("confirm", "ensemble")
    assert "1.860" in first.body
    assert "ensemble.json: cannot be read" in second.body
    write_ensemble(TOGETHER, study)
    assert "75%" in sequels(study)[1].body


ODD = {
    "settings files only": ("model: {kind: cnn}\ntraining: {epochs: 3}\n", 3),
    "no parameter at all": ("model: {kind: cnn}\ntraining: {epochs: 3}\nstudy: {pruner: {kind: never}}\n", 22),
    "two numbers that no trial has both of": (
        "model: {kind: cnn}\ntraining: {epochs: 3, optimizer: {variant: {adam: {learning_rate: {float: [1e-4, 1e-2]}},"
        " adamw: {learning_rate: {float: [1e-4, 1e-2]}}}}}\n",
        26,
    ),
    "one trial": ("model: {kind: cnn, width: {int: [4, 8]}}\ntraining: {epochs: 3}\n", 1),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_studies_have_a_report_too(odd: str, browser: Any, shared_tiny: Path, tmp_path: Path) -> None:
    text, count = ODD[odd]
    space = parse_space(text, "first.yaml")
    if odd == "settings files only":
        space = presets([space, parse_space(text.replace("3", "4"), "second.yaml")])
    ledger = make_study(space, Recipe(count, load_data(shared_tiny), tmp_path / "odd", reasons={}))
    seen = look(browser, report_module.write_report(ledger), 390, tmp_path / "odd.png")
    assert seen.words == []
    assert seen.width <= 390
    assert all(seen.figures.values()), "figures without a mark"
