"""What the tests share: real faces where they are there, a small hand-made set everywhere, a cache of their own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.keypoints import COLUMNS, COUNT
from fkpsearch.places import installed_gpus

if TYPE_CHECKING:
    import servers

for _name in ("FKPSEARCH_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    # every core has a test at work already; read when TensorFlow is imported, here and in the processes tests start
    os.environ.setdefault(_name, "1")

QUICK = (
    "accept augment augment_geometry changes curves data docs_augment families frame imports kaggle keypoints "
    "landscape lint misses models picture pipeline plain samples screen session settings site space space_mistakes "
    "space_trees split status survey"
)
"""Test files of a few seconds each, which come last: then no core is left waiting for another's long one"""

FACES96 = Path(__file__).resolve().parents[2] / "shared" / "data" / "faces96"

CARDS = "0, GPU-aaaa, 81559, NVIDIA H100\n1, GPU-bbbb, 40960, NVIDIA A100, 40GB\n"
"""What nvidia-smi says of two cards: index, UUID, memory in MiB, name"""

SMALL = [0, 1, 10, 14]
"""The keypoints of Kaggle's second population: eye centres, nose tip, bottom lip."""

EYES = [(66, 37), (30, 37), (59, 38), (73, 38), (36, 38), (23, 38)]
BROWS_NOSE_MOUTH = [(56, 29), (80, 30), (40, 29), (16, 30), (48, 57), (63, 75), (33, 75), (48, 72), (48, 79)]
FACE = np.array([*EYES, *BROWS_NOSE_MOUTH])
"""A plain face: about where the 15 keypoints lie in Kaggle's pictures."""

DIVERGING = {
    "model": {
        "kind": "cnn", "input_size": 48, "blocks": 5, "width": 2, "doubled": True, "batch_norm": False,
        "activation": {"kind": "linear"}, "dense": {"width": 8, "activation": {"kind": "linear"}}
    },
    "training": {
        "epochs": 30, "batch_size": 4, "optimizer": {"kind": "adam", "learning_rate": 1.0},
        "schedule": {"kind": "constant"}
    },
}  # fmt: skip
"""Settings whose loss overflows within a few epochs: ten linear layers of weights that move by one a step"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick files last."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") in QUICK.split())


@pytest.fixture(scope="session", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache, nor does a process a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FKPSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def faces96() -> Path:
    """The folder of real faces in Kaggle's format (see its README)."""
    folder = Path(os.environ.get("FKPSEARCH_FACES96") or FACES96)
    if not folder.is_dir():
        pytest.skip(f"needs the real faces: none at {folder}; name their folder in FKPSEARCH_FACES96")
    return folder


@pytest.fixture
def _open_registry() -> Iterator[None]:
    """What the test registers is forgotten after it."""
    from fkpsearch import registry

    before = [dict(kind) for kind in registry.KINDS]
    yield
    for kind, kept in zip(registry.KINDS, before, strict=True):
        kind.clear()
        kind.update(kept)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine of eight cores whose nvidia-smi lists two cards."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END\n{CARDS}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("FKPSEARCH_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("fkpsearch.places.cgroups", list)  # no quota, wherever these tests run
    installed_gpus.cache_clear()
    yield
    installed_gpus.cache_clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A real PostgreSQL on loopback."""
    import servers

    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.MariaDb]:
    """A real MariaDB on loopback."""
    import servers

    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


@pytest.fixture
def tiny(shared_tiny: Path, tmp_path: Path) -> Path:
    """A small Kaggle folder of the test's own, with all three files (:func:`write_tiny`)."""
    return Path(shutil.copytree(shared_tiny, tmp_path / "tiny"))


def write_tiny(folder: Path) -> None:
    """40 training rows in mixed order: 16 full (four with gaps), 24 sparse under another convention; 8 test pictures.

    Rows 5 and 9 (from 0) show one picture, both full; 12 and 31 one, both sparse; 20 and 33 one, full and sparse.
    Of the test pictures, ids 11 to 18, those with an odd id are asked for all keypoints, the others for four.
    """
    rng = np.random.default_rng(96)
    images, keypoints = draw(rng, 48)
    full = np.array([row % 5 in (0, 4) for row in range(40)])
    labels = keypoints[:40] + rng.normal(0, 0.5, (40, COUNT, 2))
    for first, second in ((5, 9), (12, 31), (20, 33)):
        images[second] = images[first]
        labels[second] = keypoints[first] + rng.normal(0, 0.5, (COUNT, 2))
    labels[~full, 10, 1] += 4  # the sparse convention: the tip of the nose is marked under it
    labels[~full] = np.where(np.isin(np.arange(COUNT), SMALL)[:, None], labels[~full], np.nan)
    for row, missing in ((0, 3), (10, 7), (15, 12), (25, 0)):
        labels[row, missing] = np.nan
    training = [
        f"{','.join(map(cell, row.ravel()))},{pixels(image)}" for row, image in zip(labels, images[:40], strict=True)
    ]
    (folder / "training.csv").write_text("\n".join([",".join([*COLUMNS, "Image"]), *training]) + "\n")
    test = [f"{number},{pixels(image)}" for number, image in enumerate(images[40:], start=11)]
    (folder / "test.csv").write_text("\n".join(["ImageId,Image", *test]) + "\n")
    asked = [
        (number, name)
        for number in range(11, 19)
        for column, name in enumerate(COLUMNS)
        if number % 2 or column // 2 in SMALL
    ]
    lookup = [f"{row},{number},{name}" for row, (number, name) in enumerate(asked, start=1)]
    (folder / "IdLookupTable.csv").write_text("\n".join(["RowId,ImageId,FeatureName,Location", *lookup]) + "\n")


def draw(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Faces as a bright oval with a dark spot at every keypoint, and where those lie."""
    y, x = np.mgrid[:96, :96]
    keypoints = (FACE - 48) * rng.uniform(0.85, 1.05, (count, 1, 1)) + 48 + rng.uniform(-5, 5, (count, 1, 2))
    images = np.empty((count, 96, 96), np.uint8)
    for image, points in zip(images, keypoints, strict=True):
        middle = points.mean(axis=0)
        face = np.where(((x - middle[0]) / 40) ** 2 + ((y - middle[1]) / 48) ** 2 < 1, 170.0, 70.0)
        for px, py in points:
            face -= 90 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
        image[:] = np.clip(face + rng.normal(0, 6, face.shape), 0, 255)
    return images, keypoints


def pixels(image: NDArray[np.uint8]) -> str:
    """A picture as Kaggle writes it."""
    return " ".join(map(str, image.ravel()))


def cell(value: float) -> str:
    """A label as Kaggle writes it."""
    return "" if np.isnan(value) else f"{value:.3f}"


Call = Callable[..., tuple[int, str, str]]
"""A command of the console script: its arguments -> exit status, output, errors"""


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *first: str) -> Call:
    """The console script in this process; ``first`` go before all that it is called with."""
    from fkpsearch import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fkpsearch", *first, *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run
