"""A training that was cut off goes on to the very outcome of one that was not."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkpsearch.checkpoint import Checkpoint, identity_of
from fkpsearch.child import WORKER
from fkpsearch.cost import cost_of
from fkpsearch.data import Faces, load_data
from fkpsearch.device import ENVIRONMENT
from fkpsearch.errors import Stopped
from fkpsearch.run_folder import CHECKPOINT, forget, forget_but_checkpoint
from fkpsearch.settings import Settings, settings_of
from fkpsearch.train import Epoch, Outcome, train

SPLIT = {"validation": 0.2, "holdout": 0.1}
NET = {"kind": "cnn", "input_size": 48, "blocks": 1, "width": 4, "dense": {"width": 16, "dropout": 0.4}}
EPOCHS = 5

HYPERMODEL = """
import keras
from keras import layers

def build(hp):
    pictures = x = keras.Input((96, 96, 1))
    x = layers.AveragePooling2D(8)(layers.Rescaling(1 / 255)(x))
    x = layers.GaussianNoise(0.2)(layers.BatchNormalization()(layers.Flatten()(x)))
    x = layers.Dense(30)(layers.Dropout(0.2)(x))
    model = keras.Model(pictures, layers.Rescaling(48, offset=47.5)(x))
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, use_ema=True, ema_momentum=0.8))
    return model
"""


def settings_for(model: dict[str, Any], **training: Any) -> Settings:
    recipe = {"epochs": EPOCHS, "batch_size": 8, "optimizer": {"kind": "adamw", "learning_rate": 0.02}, **training}
    augment = {"flip": 0.5, "rotation": 15, "contrast": 0.3}
    return settings_of({"model": model, "training": recipe, "split": SPLIT, "augment": augment, "seed": 7}, "x")


@pytest.fixture
def faces(tiny: Path) -> Faces:
    return load_data(tiny).faces


@pytest.fixture
def _after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow a busy machine is."""
    monkeypatch.setattr("fkpsearch.checkpoint.FREE", math.inf)


def figures(row: Epoch) -> tuple[float, ...]:
    """An epoch without what the clock had to do with."""
    return row.epoch, row.loss, row.rmse, row.best, row.learning_rate


def assert_same(one: Outcome, other: Outcome) -> None:
    """Bit for bit."""
    assert [figures(row) for row in one.history] == [figures(row) for row in other.history]
    assert one.predictions.tobytes() == other.predictions.tobytes()
    assert [w.tobytes() for w in one.model.get_weights()] == [w.tobytes() for w in other.model.get_weights()]


CASES: dict[str, Callable[[Path], Settings]] = {
    "dropout, averaging, cosine, a lending head": lambda _: settings_for(
        {**NET, "heads": "population"}, averaging=0.9, schedule={"kind": "cosine", "warmup": 0.2}
    ),
    "plateau, keypoint specialists": lambda _: settings_for(
        {**NET, "specialists": "keypoints"},
        schedule={"kind": "plateau", "factor": 0.5, "patience": 1},
        optimizer={"kind": "adam", "learning_rate": 0.1},
    ),
    "patience, a net for each population": lambda _: settings_for(
        {**NET, "specialists": "population"}, patience=2, optimizer={"kind": "adam", "learning_rate": 0.1}
    ),
    "a model and an optimiser of one's own": lambda folder: settings_for(
        {"kind": "hypermodel", "source": f"{folder / 'mine.py'}:build"}
    ),
}


@pytest.mark.usefixtures("_after_every_epoch")
@pytest.mark.parametrize("name", CASES)
def test_a_resumed_training_comes_to_what_an_undisturbed_one_does(name: str, faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HYPERMODEL)
    settings = CASES[name](tmp_path)
    identity = identity_of(settings, faces.fingerprint)

    def keep(row: Epoch) -> None:
        (tmp_path / str(row.epoch)).mkdir()
        shutil.copy(tmp_path / CHECKPOINT, tmp_path / str(row.epoch))

    whole = train(settings, faces, keep, on_state=Checkpoint(tmp_path, identity).write)
    assert len(whole.history) >= 3
    for epoch in (2, len(whole.history)):
        state = Checkpoint(tmp_path / str(epoch), identity).read()
        assert state is not None
        assert state.history == whole.history[:epoch]
        heard: list[Epoch] = []
        resumed = train(settings, faces, heard.append, resume=state)
        assert_same(resumed, whole)
        assert [row.epoch for row in heard] == list(range(epoch, len(whole.history) + 1))
        assert heard[0] == whole.history[epoch - 1], "the last finished epoch is said once more as it was"
        assert resumed.seconds > state.seconds
        assert not any((state.variables, *state.optimizers)), "it does not stay in memory a second time"


def test_a_checkpoint_of_another_model_is_left_alone_and_the_training_begins_anew(faces: Faces, tmp_path: Path) -> None:
    small, other = (settings_for({**NET, "width": width}, epochs=1) for width in (4, 5))
    checkpoint = Checkpoint(tmp_path, "the same name")
    train(small, faces, on_state=checkpoint.write)
    heard: list[Epoch] = []
    outcome = train(other, faces, heard.append, resume=checkpoint.read())
    assert_same(outcome, train(other, faces))
    assert [row.epoch for row in heard] == [1]


def test_what_was_learnt_in_another_precision_is_nothing_to_go_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU and, after it has gone, on a CPU: shapes and types of the weights are the same."""
    names = set()
    monkeypatch.setattr("fkpsearch.recipe.gpu_is_there", lambda: False)
    for fast in (True, False):
        monkeypatch.setattr("fkpsearch.recipe.multiplies_bfloat16", lambda fast=fast: fast)
        names |= {identity_of(settings_for(NET), "x"), identity_of(settings_for(NET, precision="float32"), "x")}
    assert len(names) == 3


def test_a_model_that_was_weighed_before_trains_to_the_same_outcome(faces: Faces) -> None:
    settings = settings_for(NET, epochs=2)
    first = train(settings, faces)
    cost_of(settings.model)
    assert_same(train(settings, faces), first)


@pytest.fixture
def state(faces: Faces, tmp_path: Path) -> bytes:
    """A checkpoint's bytes; it lies in ``tmp_path``."""
    settings = settings_for({**NET, "width": 1, "dense": {"width": 1}}, epochs=1)
    train(settings, faces, on_state=Checkpoint(tmp_path, "me").write)
    return (tmp_path / CHECKPOINT).read_bytes()


def test_a_checkpoint_that_is_missing_damaged_or_of_others_is_ignored(state: bytes, tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    good = Checkpoint(tmp_path, "me").read()
    assert good is not None
    assert Checkpoint(tmp_path, "you").read() is None
    rng = np.random.default_rng(0)
    for length in (0, 1, len(state) // 2, len(state) - 1):
        path.write_bytes(state[:length])
        assert Checkpoint(tmp_path, "me").read() is None
    survived = 0
    for place in rng.integers(0, len(state), 300):
        damaged = bytearray(state)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = Checkpoint(tmp_path, "me").read()
        if found is not None:  # a bit that says nothing, such as a date in the archive's directory
            survived += 1
            assert [value.tobytes() for value in found.variables] == [value.tobytes() for value in good.variables]
            assert found.history == good.history
    assert survived < 100
    path.unlink()
    assert Checkpoint(tmp_path, "me").read() is None


def test_settings_data_and_versions_are_what_a_checkpoint_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    one, other = settings_for(NET), settings_for(NET, epochs=6)
    same = identity_of(one, "data")
    assert identity_of(settings_of(one.model_dump(mode="json"), "y"), "data") == same
    assert len({same, identity_of(other, "data"), identity_of(one, "other data")}) == 3
    monkeypatch.setattr(keras, "__version__", "0")
    assert identity_of(one, "data") != same


def test_a_hypermodels_code_is_what_a_checkpoint_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for source in (f"{tmp_path / 'mine.py'}:build", "mine_as_a_module:build"):
        settings = settings_for({"kind": "hypermodel", "source": source})
        before = identity_of(settings, "data")
        file = tmp_path / ("mine.py" if "/" in source else "mine_as_a_module.py")
        file.write_text(HYPERMODEL)
        importlib.invalidate_caches()
        same = identity_of(settings, "data")
        assert identity_of(settings, "data") == same
        file.write_text(HYPERMODEL + "# another\n")
        assert len({before, same, identity_of(settings, "data")}) == 3


def test_a_checkpoint_that_takes_long_is_written_as_seldom_as_to_take_a_fiftieth(
    state: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [1000.0], []
    monkeypatch.setattr("fkpsearch.checkpoint.time.perf_counter", lambda: clock[0])
    whole = Checkpoint(tmp_path, "me").read()
    assert whole is not None

    def slow(seconds: float, epoch: int) -> Any:
        def make() -> Any:
            clock[0] += seconds
            written.append(epoch)
            return whole

        return make

    checkpoint = Checkpoint(tmp_path, "me")
    for epoch in range(1, 13):
        clock[0] += 10  # an epoch of ten seconds with checkpoints of one: a fiftieth is one in five of them
        checkpoint.write(slow(1.0, epoch))
    assert written == [1, 6, 11]
    written.clear()
    checkpoint = Checkpoint(tmp_path, "me")
    for epoch in range(1, 4):
        clock[0] += 0.1
        checkpoint.write(slow(0.02, epoch))
    assert written == [1, 2, 3], "short ones are always written"


ENDS = ("saved", "stopped", "diverged", "infeasible", "failed", "refused")

Told = dict[str, Any]
"""A line of a child's"""


def ready(data: Path) -> subprocess.Popen[str]:
    """A child that waits for its job."""
    environment = {**ENVIRONMENT, **os.environ}
    child = subprocess.Popen(
        [*WORKER, "--data", str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert hear(child)["is"] == "ready"
    return child


def hear(child: subprocess.Popen[str]) -> Told:
    assert child.stdout
    told: Told = json.loads(child.stdout.readline())
    return told


def say(child: subprocess.Popen[str], do: str, **content: Any) -> None:
    assert child.stdin
    child.stdin.write(json.dumps({"do": do, **content}) + "\n")
    child.stdin.flush()


def answers_of(data: Path, job: dict[str, Any], answer: Callable[[Told], str | None]) -> list[Told]:
    """All that a child says of its job; ``answer`` says what to send, and None kills the child."""
    heard: list[Told] = []
    with ready(data) as child:
        say(child, "train", **job)
        try:
            while not heard or heard[-1]["is"] not in ENDS:
                heard.append(hear(child))
                do = answer(heard[-1])
                if do is None:
                    break
                if heard[-1]["is"] in ("epoch", "done"):
                    say(child, do)
        finally:
            child.kill()
    return heard


def test_a_child_after_a_killed_one_goes_on_to_what_an_undisturbed_one_leaves(tiny: Path, tmp_path: Path) -> None:
    settings = settings_for({**NET, "heads": "population"}, averaging=0.9)
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    first, second = ({"settings": settings.model_dump(mode="json"), "folder": str(folder)} for folder in folders)

    whole = answers_of(tiny, first, lambda told: "keep" if told["is"] == "done" else "go")
    assert [told["is"] for told in whole] == ["epoch"] * EPOCHS + ["done", "saved"]
    assert not any("again" in told for told in whole)

    cut = answers_of(tiny, second, lambda told: None if told["epoch"] == 3 else "go")
    state = Checkpoint(folders[1], identity_of(settings, load_data(tiny).faces.fingerprint)).read()
    assert state is not None
    last = len(state.history)  # 3 where the machine was not too busy to write that one, too
    assert 1 <= last <= 3

    rest = answers_of(tiny, second, lambda told: "keep" if told["is"] == "done" else "go")
    epochs = list(range(last, EPOCHS + 1))
    assert [told["is"] for told in rest] == ["epoch"] * len(epochs) + ["done", "saved"]
    assert rest[0] == {**cut[last - 1], "again": True}, "the last finished epoch as it was"
    assert [told["epoch"] for told in rest[:-2]] == epochs
    assert not any("again" in told for told in (*cut, *rest[1:]))
    assert rest[-2]["rmse"] == whole[-2]["rmse"]
    assert rest[-2]["seconds"] > sum(told["seconds"] for told in cut[:last]), "the killed one's counts"
    left = [read_folder(folder) for folder in folders]
    assert left[0] == left[1]

    told = answers_of(tiny, second, lambda told: "keep" if told["is"] == "done" else "go")
    assert told[0]["again"], "an end that nobody could be told is come to once more, not trained once more"
    assert len(told) <= len(rest)
    assert told[-2]["rmse"] == whole[-2]["rmse"]
    assert read_folder(folders[1]) == left[0]


def read_folder(folder: Path) -> Any:
    """What a training left, without what the clock had to do with."""
    import keras

    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    weights = keras.saving.load_model(folder / "model.keras", compile=False).get_weights()
    answers = np.load(folder / "validation.npz")
    names = sorted(path.name for path in folder.iterdir() if path.name != CHECKPOINT)  # a busy machine writes fewer
    return names, [row[:5] for row in rows], [w.tobytes() for w in weights], answers["predictions"].tobytes()


def test_a_fresh_training_removes_the_checkpoint_and_a_good_end_does_so_too(tiny: Path, tmp_path: Path) -> None:
    settings, faces = settings_for(NET, epochs=3), load_data(tiny).faces
    folder = tmp_path / "trial"
    folder.mkdir()
    checkpoint = Checkpoint(folder, identity_of(settings, faces.fingerprint))

    def stop(row: Epoch) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(settings, faces, stop, on_state=checkpoint.write)
    assert checkpoint.read() is not None
    there: list[bool] = []

    def answer(told: Told) -> str:
        there.append(checkpoint.path.exists())
        return "stop" if told.get("epoch") == 2 else "go"

    heard = answers_of(
        tiny, {"folder": str(folder), "settings": settings.model_dump(mode="json"), "fresh": True}, answer
    )
    assert [(told["is"], told.get("epoch"), told.get("again")) for told in heard] == [
        ("epoch", 1, None), ("epoch", 2, None), ("stopped", None, None)
    ]  # fmt: skip
    assert there == [True, True, False]


def test_a_folder_is_emptied_of_an_earlier_training_with_or_without_what_to_go_on_from(tmp_path: Path) -> None:
    left = ["history.csv", "validation.npz", "model.keras", CHECKPOINT, ".checkpoint.npz.a1", ".model.77.keras"]
    for name in (*left, "settings.yaml"):
        (tmp_path / name).write_text("x")
    forget_but_checkpoint(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, "settings.yaml"]
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.yaml"]


def test_history_on_disk_is_what_was_said(faces: Faces, tmp_path: Path) -> None:
    from fkpsearch.run_folder import write_history

    rows = tuple(Epoch(number, 1 / 3, math.pi, 0.1, 1e-3, 2.5, 1e4) for number in (1, 2))
    write_history(tmp_path, rows)
    header, *lines = (tmp_path / "history.csv").read_text().splitlines()
    assert header == "epoch,loss,rmse,best,learning_rate,seconds,images_per_second"
    assert [tuple(map(float, line.split(","))) for line in lines] == [astuple(row) for row in rows]
