"""A backbone's weights from where they come from: a file, Keras' server, Kaggle's, a SavedModel."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backbones import SMALL, network_of, save_features

from fkpsearch.cost import cost_of
from fkpsearch.data import load_data
from fkpsearch.errors import SettingsError
from fkpsearch.models import Backbone
from fkpsearch.once import train_once
from fkpsearch.part import part_of
from fkpsearch.settings import settings_of
from fkpsearch.shipment import export


def test_random_weights_become_the_files(tmp_path: Path) -> None:
    made = Backbone(network=SMALL, weights=None).build()
    path = tmp_path / "stand-in.weights.h5"
    network_of(made).save_weights(path)
    loaded = Backbone(network=SMALL, weights=str(path)).build()
    for one, other in zip(network_of(made).get_weights(), network_of(loaded).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_networks_weights_are_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "other.weights.h5"
    network_of(Backbone(network="mobilenet_v3_small", weights=None).build()).save_weights(path)
    with pytest.raises(SettingsError, match=r"model.backbone.weights: does not hold the weights of this network"):
        Backbone(network=SMALL, weights=str(path)).build()


def test_a_weights_file_that_is_not_there_is_one_clear_line() -> None:
    with pytest.raises(SettingsError, match=r"must be imagenet, null or the path of a weights file \(got nowhere.h5\)"):
        Backbone(network=SMALL, weights="nowhere.h5").build()


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address of a local server of it."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from keras.src.backend import config

    home = tmp_path / "keras"
    home.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(home))  # which Keras reads when it is imported, so
    monkeypatch.setattr(config, "_KERAS_DIR", str(home))
    return home


WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"


def test_imagenet_weights_are_downloaded_once(
    served: tuple[Path, str], keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py
    from keras.src.applications import mobilenet_v2
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    folder, address = served
    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", address)
    made = network_of(Backbone(network=SMALL, weights=None).build())
    with h5py.File(folder / WEIGHTS, "w") as file:  # the format of Keras' own files
        save_weights_to_hdf5_group(file, made)
    first = network_of(Backbone(network=SMALL).build())
    (folder / WEIGHTS).unlink()
    second = network_of(Backbone(network=SMALL).build())
    for network in (first, second):
        for one, other in zip(made.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert (keras_home / "models" / WEIGHTS).is_file()


def test_without_a_network_one_line_names_the_file_and_where_to_put_it(
    keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.applications import mobilenet_v2

    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    with pytest.raises(SettingsError) as caught:
        Backbone(network=SMALL).build()
    line = str(caught.value)
    assert line.startswith(f"model.backbone.weights: {WEIGHTS} cannot be downloaded: ")
    assert f"put that file into {keras_home / 'models'}, or write `weights: null`" in line
    assert "\n" not in line


@pytest.mark.parametrize("side", [None, 96, 224])
def test_a_saved_model_makes_features_and_is_not_trained(tmp_path: Path, side: int | None) -> None:
    save_features(tmp_path / "hub", side=side)
    backbone = Backbone(saved_model=str(tmp_path / "hub"))
    cost = cost_of(backbone)
    assert cost.trainable == 30_750  # the deck's Inception V2: 1,024 features to 30 numbers
    assert cost.parameters == 30_750 + 3 * 1024
    model = backbone.build()
    rng = np.random.default_rng(3)
    kernel = rng.normal(0, 0.01, (1024, 30)).astype(np.float32)
    model.get_layer("keypoints").set_weights([kernel, np.zeros(30, np.float32)])
    pictures = rng.integers(0, 256, (2, 96, 96, 1)).astype(np.uint8)
    mean = np.repeat(pictures.mean(axis=(1, 2)) / 255, 3, axis=-1)
    wanted = mean @ np.random.default_rng(0).normal(0, 1, (3, 1024)) @ kernel * 48 + 47.5
    np.testing.assert_allclose(model.predict_on_batch(pictures).reshape(2, 30), wanted, rtol=2e-3)


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({}, "needs either a network or a saved_model"),
        ({"network": SMALL, "saved_model": "x"}, "needs either a network or a saved_model"),
        ({"network": "mobilenet_v2_05"}, r"network: is not known \(got mobilenet_v2_05\); did you mean mobilenet_v2_0"),
        ({"saved_model": "x", "frozen": 0.5}, "frozen must be 1 with a saved_model"),
        ({"network": SMALL, "frozen": 1.5}, r"frozen: must be at most 1 \(got 1.5\)"),
    ],
)
def test_what_makes_no_backbone_is_one_clear_line(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError, match=line):
        part_of(Backbone, {"kind": "backbone", **tree}, "x", SettingsError)


def test_a_saved_model_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must be a folder with a saved_model.pb or a Kaggle handle \(got nowhere"):
        Backbone(saved_model="nowhere").build()
    (tmp_path / "saved_model.pb").write_bytes(b"not one")
    with pytest.raises(SettingsError, match="is no SavedModel that makes features of pictures"):
        Backbone(saved_model=str(tmp_path)).build()


class Kaggle(http.server.BaseHTTPRequestHandler):
    """As much of Kaggle as `kagglehub.model_download` needs; the files lie in ``folder``."""

    folder: Path

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/ListModelInstanceVersionFiles"):
            names = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
            body = json.dumps({"files": [{"name": name} for name in names], "nextPageToken": ""}).encode()
        elif self.path.endswith("/DownloadModelInstanceVersion"):
            body = (self.folder / asked["path"]).read_bytes()
        else:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if body[:1] == b"{" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


HANDLE = "google/inception-v2/tensorFlow2/feature-vector/2"


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """A stand-in for Kaggle that has a model, kagglehub pointed at it, with a cache of its own."""
    from kagglesdk import kaggle_env

    save_features(tmp_path / "on-kaggle", side=224)
    handler = type("Handler", (Kaggle,), {"folder": tmp_path / "on-kaggle"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, address)
    yield server
    server.shutdown()
    server.server_close()


def test_a_kaggle_handle_is_downloaded_once_and_without_a_network_one_line_says_what_to_do(
    kaggle: http.server.ThreadingHTTPServer,
) -> None:
    assert cost_of(Backbone(saved_model=HANDLE)).trainable == 30_750
    kaggle.shutdown()
    kaggle.server_close()
    assert cost_of(Backbone(saved_model=HANDLE)).trainable == 30_750
    with pytest.raises(SettingsError) as caught:
        Backbone(saved_model=HANDLE.replace("v2/", "v1/")).build()
    line = str(caught.value)
    assert line.startswith("model.backbone.saved_model: cannot be downloaded from Kaggle: ")
    assert line.endswith("; download it where there is a network and name its folder")
    assert "\n" not in line


def test_a_saved_models_export_answers_in_a_clean_process_and_says_what_it_needs(
    shared_tiny: Path, tmp_path: Path
) -> None:
    save_features(tmp_path / "hub", side=None, features=16)
    tree = {
        "model": {"kind": "backbone", "saved_model": str(tmp_path / "hub"), "dense": {"width": 8}},
        "training": {"epochs": 2, "batch_size": 8},
        "split": {"validation": 0.2, "holdout": 0.1},
    }
    run = tmp_path / "run"
    run.mkdir()
    train_once(settings_of(tree, "x"), load_data(shared_tiny), run)
    made = export(run, load_data(shared_tiny), tmp_path / "out")
    assert made.submission is not None
    text = (made.folder / "README.md").read_text()
    assert f"SavedModel `{tmp_path / 'hub'}`" in text
    assert "safe_mode=False" in text
