"""A training process computes with the threads of its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fkpsearch.answer import exactly
from fkpsearch.child import environment_of_children
from fkpsearch.device import ENVIRONMENT
from fkpsearch.places import GPU_MEMORY, ON_GPU, on_cores


def test_a_worker_computes_with_as_many_threads_as_its_place_says(tiny: Path) -> None:
    threads = 2 * len(os.sched_getaffinity(0)) + 3  # none that a library would choose
    place = {**on_cores(threads).environment, GPU_MEMORY: "1000"}
    child = subprocess.Popen(
        [sys.executable, "-m", "fkpsearch.worker", "--data", str(tiny)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT, **place},
    )
    try:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["is"] == "ready"
        # TensorFlow's pool between operations has its own name, the one within them is called as its program
        names = [path.read_text().strip() for path in Path(f"/proc/{child.pid}/task").glob("*/comm")]
    finally:
        child.kill()
        child.wait()
    assert names.count("tf_Compute") == threads
    assert len(names) - names.count("tf_Compute") >= threads


def test_a_worker_that_is_given_a_gpu_which_its_backend_does_not_see_refuses_to_train(tiny: Path) -> None:
    command = [sys.executable, "-m", "fkpsearch.worker", "--data", str(tiny)]
    environment = {**os.environ, **ENVIRONMENT, **on_cores(1).environment, ON_GPU: "1", "CUDA_VISIBLE_DEVICES": "-1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
    assert said["is"] == "refused"
    assert said["lines"][0].startswith("training: has been given a GPU that Keras' backend does not see (got ")


@pytest.mark.parametrize(("cards", "told"), [("-1", "cpu"), ("", "cpu"), ("0", None), ("GPU-aa,GPU-bb", None)])
def test_jax_is_told_in_so_many_words_where_no_gpu_is_to_be_seen(
    cards: str, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert environment_of_children({"CUDA_VISIBLE_DEVICES": cards}).get("JAX_PLATFORMS") == told
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert environment_of_children({"CUDA_VISIBLE_DEVICES": cards})["JAX_PLATFORMS"] == "cuda,cpu"


def test_answers_are_computed_in_whole_float32_and_training_as_it_was() -> None:
    from tensorflow import config

    before = config.experimental.tensor_float_32_execution_enabled()
    with exactly():
        assert not config.experimental.tensor_float_32_execution_enabled()
    assert config.experimental.tensor_float_32_execution_enabled() == before


def test_opencv_obeys_as_well() -> None:
    code = (
        "from fkpsearch.device import take_place; take_place();"
        "import cv2, tensorflow; config = tensorflow.config.threading;"
        "print(cv2.getNumThreads(), config.get_intra_op_parallelism_threads())"
    )
    environment = {**os.environ, **ENVIRONMENT, **on_cores(1).environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n"


def test_a_process_of_ours_starts_without_pandas_and_a_hypermodel_may_still_import_it(tmp_path: Path) -> None:
    code = """
import gc, sys
from fkpsearch.device import start_keras
start_keras()
print(*sorted({"keras", "pandas", "sklearn"} & set(sys.modules)), gc.isenabled())
import pandas
print(pandas.THERE)
"""
    (tmp_path / "pandas.py").write_text("THERE = 3\n")  # the tests' own environment may have none
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "keras True\n3\n"
