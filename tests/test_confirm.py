"""Leaders confirmed by real searches whose children train in no time (tiny_trainer.py)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import Call, caller
from optuna.trial import TrialState
from rich.console import Console
from scipy import stats
from tiny import TRAINER, go, space_of

from fkpsearch.card import confirmed_of, spread_of
from fkpsearch.confirm import (
    Confirmation,
    confirm,
    folder_name,
    leaders_of,
    read_confirmation,
    verdict,
)
from fkpsearch.crew import Local
from fkpsearch.data import Data, load_data
from fkpsearch.errors import ExportError, StudyError
from fkpsearch.events import Event, TrialFinished
from fkpsearch.folds import parts_of
from fkpsearch.ledger import COPY, Ledger, read
from fkpsearch.paired import compare
from fkpsearch.places import Place
from fkpsearch.rounds import numbers_of, read_round, space_of_round
from fkpsearch.settings import read_settings
from fkpsearch.space import PRESET, Space
from fkpsearch.status import status_of
from fkpsearch.study import search
from fkpsearch.tables import status_view

HONEST = f"""
import sys, zlib
sys.path.insert(0, {str(TRAINER.parent)!r})
import tiny_trainer

def rmse_at(settings, epoch):
    \"\"\"Deeper nets are better, later rounds harder, and a seed says little beside either.\"\"\"
    depth, wide = settings["model"]["blocks"], settings["model"]["width"] > 4
    chance = zlib.crc32(f"{{settings['seed']}} {{depth}} {{wide}}".encode()) / 2**32
    return 3 - 0.4 * depth + 0.1 * settings["split"]["redraw"] + 0.002 * chance + 1 / epoch

tiny_trainer.rmse_at = rmse_at
tiny_trainer.main()
"""
"""A trainer whose settings differ: all of a depth are as good as each other"""


@pytest.fixture(scope="module")
def data(shared_tiny: Path) -> Data:
    return load_data(shared_tiny)


@pytest.fixture(scope="module")
def made(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six trials under the tiny trainer, whose values are chance alone."""
    folder = tmp_path_factory.mktemp("studies") / "x"
    go(folder, data, 6, space=space_of(pruner="never"))
    return folder


@pytest.fixture
def ledger(made: Path, tmp_path: Path) -> Ledger:
    return read(Path(shutil.copytree(made, tmp_path / "studies" / "x")))


def test_fifty_leaders_have_a_folder_whose_name_a_file_system_takes() -> None:
    assert folder_name([3, 7, 9]) == "trials-3-7-9"
    names = [folder_name(range(first, first + 50)) for first in (1000, 1001)]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 100


class Trainer:
    """Brings rounds to their end under a tiny trainer, and notes which it was called for."""

    def __init__(self, data: Data, script: Path = TRAINER, watch: Callable[[Event], None] = lambda _: None) -> None:
        self.data, self.watch = data, watch
        self.command = (sys.executable, "-S", "-E", str(script))
        self.rounds: list[int] = []

    def __call__(self, space: Space, folder: Path, number: int) -> Ledger:
        self.rounds.append(number)
        return self.search(space, folder, len(space.presets), keep=0)

    def search(self, space: Space, folder: Path, trials: int, **more: Any) -> Ledger:
        place = Place("tiny", {"TINY_FINGERPRINT": self.data.faces.fingerprint}, 0.0)
        crew = Local(self.data.folder, [place], self.command)
        return search(space, self.data, folder, trials=trials, crew=crew, watch=self.watch, **more)


def test_all_leaders_of_a_round_have_one_fresh_seed_and_one_fresh_split_and_the_studys_holdout(
    ledger: Ledger, data: Data
) -> None:
    leaders = leaders_of(ledger, 3)
    assert [one.trial for one in leaders] == [trial.number for trial in ledger.best(3)]
    confirm(ledger, data, leaders, 2, Trainer(data))
    (folder,) = (ledger.folder / "confirm").iterdir()
    before = parts_of(leaders[0].settings, data.faces)[0]
    seeds = {read_settings(path).seed for path in ledger.folder.glob("trials/*/settings.yaml")}
    for number in (1, 2):
        files = sorted((folder / f"round-{number}").glob("trials/*/settings.yaml"))
        tried = [read_settings(path) for path in files]
        assert [one.model for one in tried] == [one.settings.model for one in leaders]
        assert len({one.seed for one in tried}) == 1
        assert tried[0].seed not in seeds
        seeds.add(tried[0].seed)
        parts = [parts_of(one, data.faces)[0] for one in tried]
        assert len({tuple(one.validation) for one in parts}) == 1
        assert parts[0].holdout.tolist() == before.holdout.tolist()
        assert parts[0].validation.tolist() != before.validation.tolist()
    assert len(seeds) == 6 + 2
    assert not list(folder.rglob("model.keras")), "models are not kept"
    assert not list(ledger.folder.rglob("holdout.json"))


def test_what_is_said_of_two_settings_is_a_paired_t_test_of_the_rounds_values(ledger: Ledger, data: Data) -> None:
    leaders = leaders_of(ledger, 2)
    found = confirm(ledger, data, leaders, 3, Trainer(data))
    (folder,) = (ledger.folder / "confirm").iterdir()
    rounds = [read(folder / f"round-{number}").trials for number in (1, 2, 3)]
    values = np.array([[trials[place].value for trials in rounds] for place in (0, 1)])
    rows = {one.trial: one for one in found.settings}
    mine = [rows[one.trial] for one in leaders]
    assert [row.values for row in mine] == [tuple(row) for row in values.tolist()]
    assert [row.mean for row in mine] == pytest.approx(values.mean(axis=1).tolist())
    differences = values[1] - values[0]
    part = parts_of(leaders[0].settings, data.faces)[0]
    scale = differences.std(ddof=1) * np.sqrt(1 / 3 + len(part.validation) / len(part.training))
    assert mine[0].probability_best == pytest.approx(stats.t.cdf(differences.mean() / scale, 2), abs=0.01)
    behind = max(found.settings, key=lambda row: row.difference)
    assert behind.difference == pytest.approx(abs(differences.mean()))
    assert behind.difference_high == pytest.approx(abs(differences.mean()) + stats.t.ppf(0.975, 2) * scale)
    luck = stats.ttest_1samp(values[0] - leaders[0].value, 0).confidence_interval()
    assert mine[0].luck == pytest.approx(values[0].mean() - leaders[0].value)
    assert (mine[0].luck_low, mine[0].luck_high) == pytest.approx((luck.low, luck.high))
    assert read_confirmation(ledger.folder) == found
    assert found.fingerprint == data.faces.fingerprint
    assert found.trials == 6


ENQUEUED = """
model: {kind: cnn, input_size: 48, blocks: {int: [1, 3]}, width: {choice: [2, 4, 8]}, dense: {width: 8}}
training: {epochs: EPOCHS}
split: {validation: 0.2, holdout: 0.1}
"""


def test_it_is_over_when_it_is_decided_and_a_setting_without_a_chance_trains_no_more(
    data: Data, tmp_path: Path
) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(HONEST)
    tries = [{"model": {"blocks": blocks, "width": width}} for blocks, width in ((3, 8), (3, 2), (1, 2), (2, 2))]
    space = space_of(text=f"{ENQUEUED}enqueue: {json.dumps(tries)}\nstudy: {{pruner: {{kind: never}}}}\n")
    ledger = Trainer(data, script).search(space, tmp_path / "x", 4)
    leaders = leaders_of(ledger, 4)
    assert {one.trial for one in leaders[:2]} == {0, 1}

    close = confirm(ledger, data, leaders, 3, Trainer(data, script))
    values = {one.trial: one.values for one in close.settings}
    assert not close.decided
    assert all(None not in values[trial] for trial in (0, 1))
    assert all(values[trial][2:] == (None,) for trial in (2, 3)), "they are far behind after two rounds"
    assert set(close.racing) == {0, 1}

    train = Trainer(data, script)
    clear = confirm(ledger, data, [leaders[0], leaders[2]], 9, train)
    assert clear.decided
    assert train.rounds == [1, 2]
    assert clear.verdict == f"trial {leaders[0].trial} is the best with >99%, decided after 2 of 9 rounds"
    assert confirm(ledger, data, [leaders[0], leaders[2]], 9, train) == clear
    assert train.rounds == [1, 2], "what is there is not trained again"


def test_a_confirmation_that_was_broken_off_goes_on_where_it_was(ledger: Ledger, data: Data) -> None:
    leaders = leaders_of(ledger, 2)
    ended: list[int] = []

    def pull_the_plug(event: Event) -> None:
        if isinstance(event, TrialFinished):
            ended.append(event.number)
            if len(ended) == 3:
                raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        confirm(ledger, data, leaders, 2, Trainer(data, watch=pull_the_plug))
    kept = read_confirmation(ledger.folder)
    assert kept is not None
    assert kept.rounds == 1
    train = Trainer(data, watch=lambda event: ended.append(-1) if isinstance(event, TrialFinished) else None)
    whole = confirm(ledger, data, leaders, 2, train)
    assert train.rounds == [2]
    assert ended == [0, 1, 0, -1], "the one that was over is not trained again"
    assert whole.rounds == 2
    more = confirm(ledger, data, leaders, 3, train)
    assert more.rounds == 3
    assert more.settings[0].values[:2] in {one.values for one in whole.settings}


def test_a_round_whose_study_was_hardly_begun_is_begun_again(ledger: Ledger, data: Data) -> None:
    leaders = leaders_of(ledger, 3)
    place = ledger.folder / "confirm" / folder_name(sorted(one.trial for one in leaders)) / "round-1"
    place.mkdir(parents=True)
    (place / "study.db").touch()
    train = Trainer(data)
    assert confirm(ledger, data, leaders, 1, train).rounds == 1
    assert train.rounds == [1]


def test_settings_that_come_to_no_value_are_named_with_the_reason(ledger: Ledger, data: Data, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(TRAINER.parent)!r})\nimport tiny_trainer as t\nreal = t.train\n"
        "def train(job):\n"
        "    if job['folder'].endswith('0000'):\n"
        "        t.say('failed', why='no luck with it')\n"
        "    else:\n"
        "        real(job)\n"
        "t.train = train\nt.main()\n"
    )
    leaders = leaders_of(ledger, 3)
    found = confirm(ledger, data, leaders, 2, Trainer(data, script))
    first = leaders[0].trial
    assert found.failures[0] == f"trial {first} in round 1: no luck with it"
    assert first not in {one.trial for one in found.settings}
    with pytest.raises(StudyError, match=r"has no leader that came to a value again; trial \d in round 1: no luck"):
        confirm(ledger, data, leaders[:1], 1, Trainer(data, script))


def test_a_copy_of_what_came_to_no_value_does_not_hide_why(ledger: Ledger) -> None:
    leaders = leaders_of(ledger, 2)
    space = space_of_round(leaders, 1, ledger)
    study = optuna.create_study()
    first, second = space.presets
    told: list[dict[str, Any]] = [{"reason": "too wild"}, {}, {"reason": "its value is copied", COPY: 0}]
    for place, (name, attributes) in enumerate(zip((first, second, first), told, strict=True)):
        kinds = {PRESET: optuna.distributions.CategoricalDistribution(list(space.presets))}
        state, value = (TrialState.COMPLETE, 2.0) if place == 1 else (TrialState.PRUNED, None)
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=value, params={PRESET: name}, distributions=kinds, user_attrs=attributes
            )
        )
    found = read_round(Ledger(Path("nowhere"), space, ledger.facts, study))
    assert found.values == {leaders[1].trial: 2.0}
    assert found.failures == {leaders[0].trial: "too wild"}


def test_settings_that_were_trained_several_times_are_one_leader(data: Data, tmp_path: Path) -> None:
    text = """
model: {kind: cnn, input_size: 48, blocks: {int: [1, 2]}, width: 2, dense: {width: 8}}
training: {epochs: 2}
split: {validation: 0.2, holdout: 0.1}
study: {sampler: {kind: random}, pruner: {kind: never}, replicates: 3}
"""
    ledger = Trainer(data).search(space_of(text=text), tmp_path / "x", 6)
    trained = [trial for trial in ledger.best(6) if "copy_of" not in trial.user_attrs]
    assert len({trial.params["model.blocks"] for trial in trained}) == 2
    assert len(trained) > 2
    best = {
        blocks: min((t.value, t.number) for t in trained if t.params["model.blocks"] == blocks)[1] for blocks in (1, 2)
    }
    assert {one.settings.model.blocks: one.trial for one in leaders_of(ledger, 5)} == best  # type: ignore[union-attr]
    assert [one.trial for one in leaders_of(ledger, 1)] == [trained[0].number]


def test_the_card_of_an_export_has_what_was_confirmed_of_its_trial(ledger: Ledger, data: Data) -> None:
    leaders = leaders_of(ledger, 2)
    folders = [ledger.trial_folder(one.trial) for one in leaders]
    assert "One training, one seed" in spread_of(folders[0])
    found = confirm(ledger, data, leaders, 2, Trainer(data))
    for folder, one in zip(folders, leaders, strict=True):
        row = next(row for row in found.settings if row.trial == one.trial)
        values = [value for value in row.values if value is not None]
        text = f"2 fresh seeds and splits: {np.mean(values):.3f} ± {np.std(values, ddof=1) / np.sqrt(2):.3f} px"
        assert text in spread_of(folder)
        assert confirmed_of(folder) == row
    assert confirmed_of(ledger.trial_folder(ledger.best(3)[2].number)) is None
    assert confirmed_of(ledger.folder / "elsewhere") is None


def test_a_round_knows_the_studys_numbers(ledger: Ledger) -> None:
    leaders = leaders_of(ledger, 3)
    space = space_of_round(leaders, 1, ledger)
    assert numbers_of(space) == dict(enumerate(one.trial for one in leaders))


@pytest.mark.parametrize(
    ("rows", "rounds", "decided", "racing"),
    [
        ([[1.0, 1.1], [2.0, 2.1001], [1.001, 1.0995]], 2, False, (7, 9)),
        ([[1.0, 1.1], [2.0, 2.1001], [3.0, 3.1]], 2, True, (7,)),
        ([[1.0], [2.0], [3.0]], 1, False, (7, 8, 9)),
    ],
)
def test_the_rule_drops_below_one_percent_and_stops_above_ninety_five(
    rows: list[list[float]], rounds: int, decided: bool, racing: tuple[int, ...]
) -> None:
    found = verdict(compare(np.array(rows), 0.2), (7, 8, 9), rounds, 3)
    assert found[0] is decided
    assert found[2] == racing


def test_other_data_an_empty_study_and_a_damaged_file_are_one_line_each(
    ledger: Ledger, data: Data, tiny: Path, tmp_path: Path
) -> None:
    lines = (tiny / "training.csv").read_text().splitlines(keepends=True)
    (tiny / "training.csv").write_text("".join(lines[:-1]))
    with pytest.raises(StudyError, match="is not the data of this study; name it with --data"):
        confirm(ledger, load_data(tiny), leaders_of(ledger, 2), 2, Trainer(data))
    assert read_confirmation(ledger.folder) is None
    (ledger.folder / "confirm.json").write_text('{"settings": 3}')
    with pytest.raises(ExportError, match=r"confirm\.json: cannot be read: .*; `fkpsearch confirm` writes it anew"):
        read_confirmation(ledger.folder)
    empty = SimpleNamespace(best=lambda count: [], trials=[], folder=tmp_path / "empty")
    with pytest.raises(StudyError, match="empty: has no complete trial yet; give it more with `fkpsearch run`"):
        leaders_of(empty, 3)  # type: ignore[arg-type]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Data) -> Call:
    """The command line, its children tiny trainers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_FINGERPRINT", data.faces.fingerprint)
    command = (sys.executable, "-S", "-E", str(TRAINER))
    monkeypatch.setattr(Local.__init__, "__defaults__", (None, command))
    return caller(monkeypatch, capsys)


def test_the_command_shows_the_leaders_and_gives_programs_the_whole(ledger: Ledger, data: Data, call: Call) -> None:
    told = ("confirm", "x", "--top", 3, "--seeds", 2, "--workers", 1)
    status, out, err = call(*told)
    assert (status, err) == (0, "")
    leaders = leaders_of(ledger, 3)
    finished = [line.split()[1] for line in out.splitlines() if line.startswith("trial ") and "COMPLETE" in line]
    assert finished == [str(one.trial) for one in leaders] * 2, "by the numbers of the study"
    assert "the hold-out was not looked at" in out
    assert f"the search's best value, {leaders[0].value:.3f} px of trial {leaders[0].trial}, was" in out
    status, out, err = call(*told, "--json")
    assert (status, err) == (0, "")
    plain = json.loads(out)
    assert Confirmation(**{**plain, "settings": ()}).rounds == 2
    assert {row["trial"] for row in plain["settings"]} == {one.trial for one in leaders}
    assert f"next: fkpsearch export x --trial {plain['settings'][0]['trial']} --to out" in call(*told)[1]


def test_ctrl_c_in_the_last_moment_of_a_round_begins_no_other(
    ledger: Ledger, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **more: Any) -> Ledger:
        made = search(*arguments, **more)
        os.kill(os.getpid(), signal.SIGINT)
        return made

    monkeypatch.setattr("fkpsearch.study.search", interrupted)
    assert call("confirm", "x", "--top", 3, "--seeds", 2, "--workers", 1)[0] == 130
    assert len(list(ledger.folder.glob("confirm/*/round-*"))) == 1
    found = read_confirmation(ledger.folder)
    assert found is not None
    assert found.rounds == 1


def test_status_marks_the_trials_that_learnt_nothing(ledger: Ledger) -> None:
    best = [float(trial.value or 0) for trial in ledger.best(6)]
    line = (best[3] + best[4]) / 2
    found = status_of(replace(ledger, facts=replace(ledger.facts, mean_rmse=line)), [])
    assert found["learnt_nothing"] == sorted(trial.number for trial in ledger.best(6)[4:])
    assert [row["learnt_nothing"] for row in found["leaders"]] == [False] * 4 + [True] * 2
    console = Console(width=120)
    with console.capture() as shown:
        console.print(status_view(found))
    marked = [row.split()[0] for row in shown.get().splitlines() if row.rstrip().endswith("learnt nothing")]
    assert marked == ["mean", *(str(trial.number) for trial in ledger.best(6)[4:])]
    assert f"{line:.3f} px: 2 trials learnt nothing" in shown.get()
