"""Exported formats opened by their own runtimes, and by a script that knows nothing of this package."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_cli import Call, assert_lines, call  # noqa: F401 (a fixture)
from test_views import model_of

from fkpsearch.assemble import join, with_views
from fkpsearch.convert import plainly, to_onnx, to_tflite
from fkpsearch.errors import ExportError, InputError
from fkpsearch.formats import FILES, NEAR, Format, check_near, known_formats, make_formats
from fkpsearch.painting import draw_head
from fkpsearch.photograph import open_model
from fkpsearch.runtimes import open_runtime
from fkpsearch.script import PREDICT
from fkpsearch.views import SETS

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")


@dataclass(frozen=True, eq=False)
class Shipped:
    """An ensemble with views in every format."""

    folder: Path
    formats: dict[str, Format]
    pictures: NDArray[np.uint8]
    answers: NDArray[np.float32]
    """Of Keras"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    folder = tmp_path_factory.mktemp("formats")
    pair = [model_of(1, heads="population"), model_of(2, specialists="population")]
    model = with_views(join(pair, [0.6, 0.4]), SETS["flip"])
    model.save(folder / "model.keras")
    pictures = np.stack([draw_head(np.random.default_rng(number))[0] for number in range(12)])
    answers = model.predict(pictures[..., None], verbose=0)

    def rmse(heads: NDArray[np.float32]) -> float:
        return float(np.sqrt(np.mean((heads - answers + 1) ** 2)))  # as if every label were a pixel off Keras' answer

    made = make_formats(tuple(FILES), folder, pictures, pictures, rmse)
    return Shipped(folder, {one.name: one for one in made}, pictures, answers)


def batch(shipped: Shipped) -> NDArray[np.float32]:
    return shipped.pictures[..., None].astype(np.float32)


def test_onnx_answers_as_keras_does_whatever_the_batch(shipped: Shipped) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(shipped.folder / "model.onnx")
    (given,), (answers,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("pictures", "tensor(float)", [96, 96, 1])
    assert answers.name == "keypoints"
    for size in (1, 7):
        got = session.run(["keypoints"], {"pictures": batch(shipped)[:size]})[0]
        np.testing.assert_allclose(got, shipped.answers[:size], atol=NEAR)


@pytest.mark.parametrize(("name", "near"), [("tflite", NEAR), ("tflite-int8", 1.0)])
def test_tflite_answers_as_keras_does_and_int8_nearly(shipped: Shipped, name: str, near: float) -> None:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(shipped.folder / FILES[name])).get_signature_runner()
    got = np.concatenate([next(iter(run(pictures=one[None]).values())) for one in batch(shipped)])
    assert got.shape == shipped.answers.shape
    farthest = np.abs(got - shipped.answers).max()
    assert farthest < near
    made = shipped.formats[name]
    assert made.apart == pytest.approx(farthest, abs=0.2 if near == 1 else 1e-3)
    assert made.loss == pytest.approx(np.sqrt(np.mean((got - shipped.answers + 1) ** 2)) - 1, abs=0.02)


def test_int8_computes_in_whole_numbers_and_takes_less_than_half_the_room(shipped: Shipped) -> None:
    from ai_edge_litert.interpreter import Interpreter

    kinds = [
        {str(np.dtype(one["dtype"])) for one in Interpreter(str(shipped.folder / FILES[name])).get_tensor_details()}
        for name in ("tflite", "tflite-int8")
    ]
    assert "int8" not in kinds[0]
    assert "int8" in kinds[1]
    assert shipped.formats["tflite-int8"].bytes < 0.5 * shipped.formats["tflite"].bytes


def test_every_format_is_there_with_its_size_and_the_time_a_picture_takes(shipped: Shipped) -> None:
    assert list(shipped.formats) == ["keras", "onnx", "tflite", "tflite-int8"]
    for one in shipped.formats.values():
        assert one.bytes == (shipped.folder / one.file).stat().st_size > 10_000
        assert 0.005 < one.milliseconds < 2000
    assert shipped.formats["keras"].apart is None


@pytest.mark.parametrize("name", ["keras", "onnx", "tflite"])
def test_the_script_of_an_export_needs_a_model_file_and_its_runtime_only(
    shipped: Shipped, tmp_path: Path, name: str
) -> None:
    code = [line for line in PREDICT.splitlines() if line.strip()]
    assert len(code) < 30
    (tmp_path / "predict.py").write_text(PREDICT)
    file = tmp_path / FILES[name]
    file.write_bytes((shipped.folder / FILES[name]).read_bytes())
    cv2.imwrite(str(tmp_path / "small.png"), shipped.pictures[3])
    cv2.imwrite(str(tmp_path / "large.png"), np.kron(shipped.pictures[3], np.ones((3, 3), np.uint8)))
    done = run_script(tmp_path, file.name, "small.png", "large.png")
    assert done.returncode == 0, done.stderr
    small, large = (line.split() for line in done.stdout.strip().splitlines()[-2:])
    told = np.array([point.split(",") for point in small[1:]], float)
    np.testing.assert_allclose(told, shipped.answers[3, 0], atol=0.02)
    # three times as large: the centre of pixel 0 lies a pixel from the edge, which is half of a small one
    np.testing.assert_allclose(np.array([point.split(",") for point in large[1:]], float), told * 3 + 1, atol=0.1)


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a folder and an environment where nothing leads to this package."""
    blocked = "import sys; sys.modules['fkpsearch'] = None; sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", blocked, "predict.py", *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_the_script_says_what_is_no_picture(shipped: Shipped, tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text(PREDICT)
    (tmp_path / "letter.png").write_text("no picture")
    done = run_script(tmp_path, str(shipped.folder / "model.onnx"), "letter.png")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "letter.png: is no picture"


@pytest.mark.parametrize("name", ["onnx", "tflite", "tflite-int8"])
def test_predict_takes_a_model_in_any_format(
    shipped: Shipped,
    tmp_path: Path,
    call: Call,  # noqa: F811
    name: str,
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), shipped.pictures[0])
    status, _, err = call("predict", shipped.folder / FILES[name], "a.png", "--to", "out", "--whole")
    assert (status, err) == (0, "")
    row = (tmp_path / "out" / "keypoints.csv").read_text().splitlines()[1].split(",")
    near = 1.0 if name == "tflite-int8" else 0.02
    np.testing.assert_allclose(np.array(row[-30:], float), shipped.answers[0, 0].ravel(), atol=near)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_damaged_file_and_one_without_its_runtime_are_one_clear_line(
    shipped: Shipped, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (shipped.folder / f"model{suffix}").read_bytes()
    (tmp_path / f"model{suffix}").write_bytes(whole[:200])
    with pytest.raises(InputError, match=rf"model{suffix}: does not load: .+") as caught:
        open_model(tmp_path / f"model{suffix}")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"needs (onnxruntime|ai-edge-litert), which is not installed; `pip install"):
        open_runtime(shipped.folder / f"model{suffix}")


def test_formats_are_known_by_name_and_keras_is_among_any_to_compare_with() -> None:
    assert known_formats(()) == ()
    assert known_formats(["keras"]) == ("keras",)
    assert known_formats(["tflite", "onnx", "tflite"]) == ("keras", "onnx", "tflite")
    assert known_formats(["all"]) == tuple(FILES)
    with pytest.raises(InputError, match=r"^--format: is not known \(got onxx\); did you mean onnx\?$"):
        known_formats(["onxx"])


def test_a_wrong_format_is_told_before_anything_is_done(call: Call, tmp_path: Path) -> None:  # noqa: F811
    status, _, err = call("export", "nix", "--to", "out", "--format", "tflite8")
    assert status == 2
    assert_lines(err, r"--format: is not known \(got tflite8\); did you mean tflite-int8\?|tflite\?")


@pytest.mark.parametrize("apart", [0.011, float("nan")])
def test_a_format_that_answers_otherwise_is_refused_but_for_int8(apart: float) -> None:
    with pytest.raises(ExportError, match=r"model.onnx: must answer as the Keras model does within 0.01 px \(got "):
        check_near("onnx", apart)
    check_near("onnx", 0.01)
    check_near("tflite-int8", apart)


def awkward() -> Any:
    """What stands in converters' way: grouped convolutions, exact GELUs, constants, half precision."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    pictures = keras.Input((96, 96, 1), name="pictures")
    x = layers.Normalization(mean=120.0, variance=60.0**2)(pictures)
    x = layers.Conv2D(6, 5, strides=4, dtype="mixed_bfloat16")(x)
    x = layers.Conv2D(6, 3, padding="same", groups=6, name="grouped")(x)
    x = layers.LayerNormalization()(layers.Activation("gelu")(x))
    x = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Flatten()(x)))
    x = layers.Dense(30, dtype="float32", kernel_initializer=keras.initializers.RandomNormal(0, 0.3))(x)
    return keras.Model(pictures, layers.Reshape((1, 15, 2))(x))


def test_what_stands_in_converters_way_is_put_right(shipped: Shipped, tmp_path: Path) -> None:
    model = awkward()
    plain = plainly(model)
    right = np.asarray(plain.predict_on_batch(shipped.pictures[..., None]))
    in_half = np.asarray(model.predict_on_batch(shipped.pictures[..., None]))
    assert 1e-4 < np.abs(right - in_half).max() < 0.3
    assert plain.get_layer("grouped").__class__.__name__ == "DepthwiseConv2D"
    to_onnx(plain, tmp_path / "model.onnx")
    to_tflite(plain, tmp_path / "model.tflite")
    for file in ("model.onnx", "model.tflite"):
        got = open_runtime(tmp_path / file).predict_on_batch(batch(shipped))
        np.testing.assert_allclose(got, right, atol=NEAR)
    assert right.std(axis=0).min() > 0.05, "else the model says the same of all pictures"


def test_a_model_that_nothing_stands_in_the_way_of_is_converted_as_it_is() -> None:
    model = model_of(1)
    assert plainly(model) is model
