"""The deck's systems at a laptop's size: `spaces/deck/laptop/`, on real faces, for equal minutes each.

    python benchmarks/deck.py calibrate [NAME...]       # how many epochs of each file take three minutes here
    python benchmarks/deck.py train [NAME...]           # one study of all files, `studies/deck-laptop`
    python benchmarks/deck.py sets                      # one of the ten augmentation sets and none, equal epochs
    python benchmarks/deck.py table STUDY               # its trials with their hold-out scores, as Markdown

The two pretrained networks get random stand-ins for ImageNet's weights unless `--imagenet` says that Keras may
download them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from fkpsearch.data import load_data
from fkpsearch.ledger import read
from fkpsearch.once import read_decided, train_once
from fkpsearch.shipment import export
from fkpsearch.space import PRESET

HOME = Path(__file__).parents[1]
FACES = os.environ.get("FKPSEARCH_FACES96") or HOME.parent / "shared" / "data" / "faces96"
FILES = sorted((HOME / "spaces" / "deck" / "laptop").glob("*.yaml"))
SETS = sorted((HOME / "spaces" / "deck").glob("augment-*.yaml"))


def stand_in(network: str, folder: Path) -> Path:
    """A file of random weights for a network of the table."""
    path = folder / f"{network}.weights.h5"
    code = f"""
import keras
from fkpsearch.models import Backbone
keras.utils.set_random_seed(0)
model = Backbone(network={network!r}, weights=None).build()
next(layer for layer in model.layers if isinstance(layer, keras.Model)).save_weights({str(path)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return path


def with_stand_ins(files: list[Path], folder: Path, *, imagenet: bool) -> list[Path]:
    """Copies of the files that name stand-in weights where they want ImageNet's."""
    copies = []
    for file in files:
        tree = yaml.safe_load(file.read_text())
        if tree["model"].get("weights") == "imagenet" and not imagenet:
            tree["model"]["weights"] = str(stand_in(tree["model"]["network"], folder))
        copies.append(folder / file.name)
        copies[-1].write_text(yaml.safe_dump(tree, sort_keys=False))
    return copies


def calibrate(files: list[Path], minutes: float) -> None:
    """Print how many epochs take so long; the first epoch of a training is dearer and is not counted."""
    data = load_data(Path(FACES))
    for file in files:
        settings = read_decided(file)
        short = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 2})})
        with tempfile.TemporaryDirectory() as run:
            ends: list[float] = []
            train_once(short, data, Path(run), lambda _, ends=ends: ends.append(time.perf_counter()))
        seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
        print(
            f"{file.stem:<18} {seconds:6.2f} s an epoch   epochs: {max(1, round(minutes * 60 / seconds))}", flush=True
        )


def simple_net(folder: Path) -> list[Path]:
    """The ten sets, and none, on the simple net at a laptop's size, equal epochs of twice the pictures."""
    tree = yaml.safe_load((HOME / "spaces" / "deck" / "laptop" / "model1.yaml").read_text())
    tree["model"].pop("specialists")
    sets = {path.stem: yaml.safe_load(path.read_text())["augment"] for path in SETS}
    copies = []
    for name, augment in {"augment-none": {}, **sets}.items():
        epochs = 15 if augment else 30  # a copy doubles the pictures of an epoch: equal steps for all
        copies.append(folder / f"{name}.yaml")
        changed = {**tree, "augment": augment, "training": {**tree["training"], "epochs": epochs}}
        copies[-1].write_text(yaml.safe_dump(changed, sort_keys=False))
    return copies


def search(files: list[Path], name: str) -> None:
    """All files as one study."""
    command = [sys.executable, "-m", "fkpsearch.cli", "run", *map(str, files), "--data", str(FACES), "--name", name]
    subprocess.run(command, check=True, cwd=HOME)


def table(study: Path) -> None:
    """Worst first: validation and hold-out RMSE, epochs, seconds."""
    data = load_data(Path(FACES))
    ledger = read(study)
    print("| system | validation | hold-out | mean keypoint | best epoch | minutes |")
    print("|---" * 6 + "|")
    for trial in reversed(ledger.best(None)):
        with tempfile.TemporaryDirectory() as to:
            run = ledger.trial_folder(trial.number)
            if not (run / "model.keras").exists():  # a study keeps those of the best few
                train_once(read_decided(run / "settings.yaml"), data, run)
            made = export(run, data, Path(to))
        attrs = trial.user_attrs
        epochs = f"{attrs['best_epoch']} of {trial.last_step}"
        minutes = attrs["training_seconds"] / 60
        print(
            f"| {trial.params[PRESET]} | {made.validation.rmse:.3f} | {made.holdout.rmse:.3f} | "
            f"{made.holdout.mean_keypoint_rmse:.3f} | {epochs} | {minutes:.1f} |",
            flush=True,
        )


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["calibrate", "train", "sets", "table"])
    parser.add_argument("names", nargs="*", help="files to calibrate or train, all by default; the study of a table")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--imagenet", action="store_true")
    told = parser.parse_args()
    chosen = [file for file in FILES if not told.names or file.stem in told.names]
    with tempfile.TemporaryDirectory() as folder:
        match told.what:
            case "calibrate":
                calibrate(with_stand_ins(chosen, Path(folder), imagenet=told.imagenet), told.minutes)
            case "train":
                name = "deck-some" if told.names else "deck-laptop"
                search(with_stand_ins(chosen, Path(folder), imagenet=told.imagenet), name)
            case "sets":
                search(simple_net(Path(folder)), "deck-sets")
            case "table":
                table(Path(told.names[0]))


if __name__ == "__main__":
    main()
