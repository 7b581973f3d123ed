"""What is changed, one thing at a time: the table of the ablations.

A change is laid over `base.yaml`, or acts on the rows that train. Seed s draws weights, order and augmentation, and
cuts a fresh validation part from what the hold-out leaves; so a change and what it is measured against meet the same
pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residuals import labels_dropped, pseudo_labels, relabelled, rows_dropped
from rows import Rows, balanced, balanced_by_weight, copies_averaged, copies_merged, imputed

from fkpsearch.errors import Problem, SettingsError
from fkpsearch.keypoints import FULL, SPARSE
from fkpsearch.plain import read_yaml
from fkpsearch.settings import Settings, settings_of

BASE = Path(__file__).with_name("base.yaml")

GROUPS = ("heads", "rows", "augment", "recipe", "net", "input", "after training")
"""In the order of the table"""


@dataclass(frozen=True)
class Change:
    """One thing that is done otherwise."""

    name: str
    """File names carry it"""
    group: str
    """One of ``GROUPS``"""
    title: str
    """For the table"""
    patch: Mapping[str, Any] = field(default_factory=dict)
    """Laid over the base's tree; a mapping of another ``kind`` takes the place of the base's"""
    rows: Rows | None = None
    """Changes the training part; all others' rows stay as they are"""
    against: str = "base"
    """The change it is measured against"""
    same_path: bool = False
    """Its weights go the way of what it is measured against: of chance both have the same"""
    reseed: int = 0
    """Added to the seed of weights, order and augmentation; the split stays that of the seed"""
    gone: bool = False
    """Its settings were taken out of the package, as they did not pay: its results stay, it cannot be trained again"""


def settings_for(change: Change, seed: int, epochs: int | None = None) -> Settings:
    """The settings of a change's training; ``epochs`` shortens it. Raises SettingsError."""
    tree = laid_over(read_yaml(BASE, SettingsError), change.patch)
    tree["seed"] = seed + change.reseed
    tree["split"] = {"redraw": seed}
    if epochs:
        tree["training"]["epochs"] = epochs
    return settings_of(tree, f"the change {change.name}")


def laid_over(tree: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with the patch's values in it."""
    made = dict(tree)
    for name, value in patch.items():
        before = made.get(name)
        merges = isinstance(before, dict) and isinstance(value, Mapping)
        if merges and value.get("kind", before.get("kind")) == before.get("kind"):
            made[name] = laid_over(before, value)
        else:
            made[name] = value
    return made


def find_change(name: str) -> Change:
    """By its name. Raises SettingsError."""
    if name not in BY_NAME:
        raise SettingsError(Problem("--only", "is not a change", name, f"known: {', '.join(BY_NAME)}"))
    return BY_NAME[name]


LIGHT = {"brightness": 20, "contrast": 0.3}
"""The base's"""
GEOMETRY = {"flip": 0.5, "rotation": 10, "scale": 0.1, "shift": 5}
"""The base's"""

DENSE = {"readout": {"kind": "dense"}, "dense": {"width": 256, "dropout": 0.2}}

RESIDUAL = {
    "kind": "resnet",
    "heads": "population",
    "activation": {"kind": "leaky_relu", "alpha": 0.1},
    "readout": {"kind": "simcc"},
}


def _off(*dials: str) -> dict[str, float]:
    return dict.fromkeys(dials, 0)


def _times(factor: float) -> dict[str, float]:
    """The base's strengths but for the flip, which has none."""
    return {name: round(value * factor, 3) for name, value in {**GEOMETRY, **LIGHT}.items() if name != "flip"}


HEADS = (
    Change("one-head", "heads", "one head for both populations", {"model": {"heads": "one"}}),
    Change(
        "two-nets", "heads", "a net for each population",
        {"model": {"heads": "one", "specialists": "population"}},
    ),
    Change(
        "d1-d2", "heads", "the deck's D1 and D2, each with a head a population",
        {"model": {"specialists": "keypoints"}},
    ),
    Change(
        "d1-d2-one-head", "heads", "the deck's D1 and D2, one head each",
        {"model": {"heads": "one", "specialists": "keypoints"}}, against="one-head",
    ),
    Change("dense", "heads", "a dense layer of 256 in place of SimCC", {"model": DENSE}),
    Change("dsnt", "heads", "soft-argmax over heatmaps (DSNT)", {"model": {"readout": {"kind": "dsnt"}}}),
    Change("mean-dense", "heads", "the mean of dense layer and SimCC on one trunk", gone=True),
    Change("simcc-side-24", "heads", "SimCC on maps of 24 cells", {"model": {"readout": {"side": 24}}}),
    Change("simcc-side-6", "heads", "SimCC on maps of 6 cells", {"model": {"readout": {"side": 6}}}),
    Change("simcc-width-48", "heads", "SimCC, 48 filters before the maps", {"model": {"readout": {"width": 48}}}),
    Change("simcc-bins-96", "heads", "SimCC, bins of a pixel", {"model": {"readout": {"bins": 96}}}),
    Change("simcc-sigma-1", "heads", "SimCC, labels spread by 1 px", {"model": {"readout": {"sigma": 1.0}}}),
    Change("simcc-sigma-4", "heads", "SimCC, labels spread by 4 px", {"model": {"readout": {"sigma": 4.0}}}),
    Change("simcc-off", "heads", "SimCC without the loss of its classes", {"model": {"readout": {"classes": 0.0}}}),
    Change("simcc-3", "heads", "SimCC, that loss three times as heavy", {"model": {"readout": {"classes": 0.03}}}),
)  # fmt: skip

ROWS = (
    Change(
        "complete-rows", "rows", "only rows with all 15 labels, one head",
        {"model": {"heads": "one"}, "training": {"rows": "complete"}}, against="one-head",
    ),
    Change("imputed", "rows", "missing labels filled with the mean keypoint", rows=imputed),
    Change("copies-averaged", "rows", "copies of a picture have the mean of their labels", rows=copies_averaged),
    Change("copies-merged", "rows", "copies of a picture become one row with that mean", rows=copies_merged),
    # 1.9 and 3.1 times as many rows, in as many fewer epochs: the base's steps, or what is measured is longer training
    Change(
        "balanced-half", "rows", "rare poses shown more often, half way to evenly",
        {"training": {"epochs": 13}}, rows=balanced(0.5),
    ),
    Change(
        "balanced", "rows", "every kind of pose shown as often as any other",
        {"training": {"epochs": 8}}, rows=balanced(1.0),
    ),
    Change("weighted-half", "rows", "labels of rare poses weigh more, half way", rows=balanced_by_weight(0.5)),
    Change("rows-dropped", "rows", "2% of rows dropped, those farthest from out-of-fold answers", rows=rows_dropped()),
    Change(
        "labels-dropped", "rows", "2% of labels dropped, those farthest from out-of-fold answers",
        rows=labels_dropped(),
    ),
    Change("relabelled", "rows", "labels more than 4 deviations from those answers become them", rows=relabelled()),
    Change("pseudo-20", "rows", "sparse rows learn the full head's answers, weight 0.2", rows=pseudo_labels(0.2)),
    Change("pseudo-50", "rows", "sparse rows learn the full head's answers, weight 0.5", rows=pseudo_labels(0.5)),
    Change(
        "pseudo-20-both", "rows", "both heads learn the full one's answers on sparse rows, weight 0.2",
        rows=pseudo_labels(0.2, of=(FULL, SPARSE)),
    ),
)  # fmt: skip

AUGMENT = (
    Change("no-augment", "augment", "no augmentation", {"augment": _off(*GEOMETRY, *LIGHT)}),
    Change("light-only", "augment", "light alone", {"augment": _off(*GEOMETRY)}),
    Change("geometry-only", "augment", "geometry alone", {"augment": _off(*LIGHT)}),
    Change("no-flip", "augment", "no mirror", {"augment": {"flip": 0}}),
    Change("half-strength", "augment", "half as strong", {"augment": _times(0.5)}),
    Change("stronger", "augment", "1.5 times as strong", {"augment": _times(1.5)}),
    Change("elastic", "augment", "with elastic, 4 px", {"augment": {"elastic": 4}}),
    Change("perspective", "augment", "with perspective, 0.1", {"augment": {"perspective": 0.1}}),
    Change(
        "elastic-perspective", "augment", "with elastic and perspective",
        {"augment": {"elastic": 4, "perspective": 0.1}},
    ),
    Change("shear", "augment", "with shear, 0.1", {"augment": {"shear": 0.1}}),
    Change("cutout", "augment", "with cutout, up to 24 px", {"augment": {"cutout": 24}}),
    Change("blur", "augment", "with blur, up to 1 px", {"augment": {"blur": 1}}),
    Change("noise", "augment", "with noise, up to 8 gray levels", {"augment": {"noise": 8}}),
    Change("equalise", "augment", "with every second histogram equalised", {"augment": {"equalise": 0.5}}),
)  # fmt: skip

RECIPE = (
    Change("again", "recipe", "the base with nothing but another seed", reseed=100),
    Change("again-2", "recipe", "the base with another seed once more", reseed=200),
    Change("constant", "recipe", "constant learning rate", {"training": {"schedule": {"kind": "constant"}}}),
    Change(
        "constant-no-averaging", "recipe", "weights not averaged",
        {"training": {"schedule": {"kind": "constant"}, "averaging": 0}}, against="constant", same_path=True,
    ),
    Change(
        "constant-99", "recipe", "weights averaged with decay 0.99",
        {"training": {"schedule": {"kind": "constant"}, "averaging": 0.99}}, against="constant", same_path=True,
    ),
    Change(
        "constant-batch-32", "recipe", "batches of 32",
        {"training": {"schedule": {"kind": "constant"}, "batch_size": 32}}, against="constant",
    ),
    Change(
        "constant-rate-2", "recipe", "learning rate 2e-3",
        {"training": {"schedule": {"kind": "constant"}, "optimizer": {"learning_rate": 2e-3}}}, against="constant",
    ),
    Change(
        "constant-epochs-50", "recipe", "50 epochs",
        {"training": {"schedule": {"kind": "constant"}, "epochs": 50}}, against="constant",
    ),
    Change(
        "plateau", "recipe", "plateau: halved after 3 epochs in vain, once in three seeds",
        {"training": {"schedule": {"kind": "plateau", "factor": 0.5, "patience": 3}}}, against="constant",
        same_path=True,
    ),
    Change("warm-up-30", "recipe", "cosine with a warm-up of 30%", {"training": {"schedule": {"warmup": 0.3}}}),
    Change("one-cycle", "recipe", "one cycle: two straight lines, 30% up", gone=True),
    Change("huber", "recipe", "Huber's loss (3 px) in the first half, then squared", gone=True),
    Change("no-averaging", "recipe", "weights not averaged", {"training": {"averaging": 0}}, same_path=True),
    Change(
        "averaging-99", "recipe", "weights averaged with decay 0.99", {"training": {"averaging": 0.99}},
        same_path=True,
    ),
    # Adam is AdamW without decay, so the two are one change
    Change(
        "adam", "recipe", "Adam, no weight decay",
        {"training": {"optimizer": {"kind": "adam", "learning_rate": 3e-3}}},
    ),
    Change("decay-05", "recipe", "weight decay 5e-2", {"training": {"optimizer": {"weight_decay": 5e-2}}}),
    Change("batch-32", "recipe", "batches of 32", {"training": {"batch_size": 32}}),
    Change("batch-128", "recipe", "batches of 128", {"training": {"batch_size": 128}}),
    Change(
        "bfloat16", "recipe", "convolutions in bfloat16",
        {"training": {"precision": "mixed_bfloat16"}},
    ),
    Change("epochs-50", "recipe", "50 epochs", {"training": {"epochs": 50}}),
    Change("epochs-100", "recipe", "100 epochs", {"training": {"epochs": 100}}),
)  # fmt: skip

NET = (
    Change("relu", "net", "ReLU", {"model": {"activation": {"kind": "relu"}}}),
    Change("leaky-30", "net", "leaky ReLU, slope 0.3", {"model": {"activation": {"alpha": 0.3}}}),
    # 16.8 and 15.9 million multiply-adds a picture, where the base has 16.2
    Change(
        "residual", "net", "residual: 96 px, four stages of a block, width 9",
        {"model": {**RESIDUAL, "input_size": 96, "width": 9, "stages": 4, "blocks": 1}},
    ),
    Change(
        "residual-48", "net", "residual: 48 px, three stages of two blocks, width 14",
        {"model": {**RESIDUAL, "input_size": 48, "width": 14, "stages": 3, "blocks": 2}},
    ),
)  # fmt: skip

INPUT = (
    Change("96-px", "input", "96 px, the same convolutions and so no decoder", {"model": {"input_size": 96}}),
    Change("96-px-4-blocks", "input", "96 px, a fourth block", {"model": {"input_size": 96, "blocks": 4}}),
    Change("standardise", "input", "each picture standardised", gone=True),
)  # fmt: skip

CHANGES = (Change("base", "", "the base"), *HEADS, *ROWS, *AUGMENT, *RECIPE, *NET, *INPUT)

BY_NAME = {change.name: change for change in CHANGES if not change.gone}
"""Those that can be trained"""
