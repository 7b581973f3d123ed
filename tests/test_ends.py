"""How a training ends where memory or disk do: real children, real failures."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkpsearch.child import Process
from fkpsearch.errors import ModelError, Problem, disk_full, out_of_memory
from fkpsearch.settings import Settings, read_settings, settings_of

Message = dict[str, Any]

ENDS = ("saved", "stopped", "diverged", "infeasible", "full", "failed", "refused")

GREEDY = """
import keras
import numpy as np
from keras import layers

class Repeat(layers.Layer):
    def call(self, x):
        return keras.ops.mean(keras.ops.repeat(x[..., None], 2 * 10**9, axis=-1), axis=-1)

def net(hp, *more):
    pictures = x = keras.Input((96, 96, 1))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    for layer in more:
        x = layer(x)
    return keras.Model(pictures, layers.Dense(30)(x))

def builds_too_much(hp):
    np.ones(2**46)
    return net(hp)

def modest(hp):
    return net(hp, layers.Dense(hp.Int("width", 1, 9)))

def trains_too_much(hp):
    return net(hp, Repeat())
"""


def settings_for(model: dict[str, Any], **training: Any) -> Settings:
    recipe = {"epochs": 3, "batch_size": 8, **training}
    split = {"validation": 0.2, "holdout": 0.1}
    return settings_of({"model": model, "training": recipe, "split": split}, "x")


NET = {"kind": "cnn", "input_size": 48, "blocks": 3, "width": 8, "dense": {"width": 32}}


def converse(
    data: Path,
    folder: Path,
    settings: Settings,
    before: Callable[[Message, int], object] = lambda *_: None,
    *,
    go: bool = True,
    **job: Any,
) -> list[Message]:
    """A child's whole conversation, told to go on and to keep its model.

    ``before`` each answer is called with the message and the child's process id.
    """
    child, heard = Process(data), []  # type: Process, list[Message]
    try:
        while not heard or heard[-1]["is"] not in ENDS:
            said = child.receive(120)
            assert said, "the child is silent"
            message = said.model_dump(by_alias=True)
            heard.append(message)
            before(message, child.pid)
            match message["is"]:
                case "ready":
                    child.send("train", folder=str(folder), settings=settings.model_dump(mode="json"), **job)
                case "epoch" | "decided":
                    child.send("go" if go else "stop")
                case "suggest":
                    child.send("use", value=5)
                case "done":
                    child.send("keep")
    finally:
        child.kill()
    return heard[1:]


def test_what_a_hypermodel_was_decided_to_be_is_said_and_a_twin_is_not_trained(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GREEDY)
    settings = settings_for({"kind": "hypermodel", "source": f"{tmp_path / 'mine.py'}:modest"})
    heard = converse(tiny, tmp_path, settings, go=False, ask=True, twins=True)
    assert [message["is"] for message in heard] == ["suggest", "decided", "stopped"]
    tree = settings.model_dump(mode="json")
    tree["model"]["values"] = {"width": 5}
    assert heard[1]["settings"] == tree
    assert read_settings(tmp_path / "settings.yaml") == settings_of(tree, "x")
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["mine.py", "settings.yaml"]


@pytest.mark.parametrize("name", ["builds_too_much", "trains_too_much"])
def test_memory_that_runs_out_is_infeasible_and_no_failure(name: str, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    settings = settings_for({"kind": "hypermodel", "source": f"{tmp_path / 'greedy.py'}:{name}"})
    *before, end = converse(tiny, tmp_path, settings, ask=True, twins=True)
    assert [message["is"] for message in before] == ([] if name == "builds_too_much" else ["decided"])
    assert (end["is"], end["constraint"]) == ("infeasible", "memory")
    assert end["why"].startswith("out of memory: ")
    assert "llocat" in end["why"], "in the words of whoever wanted it"
    assert "\n" not in end["why"]
    assert len(end["why"]) < 320


def test_every_backends_way_of_running_out_of_memory_is_known() -> None:
    with pytest.raises(MemoryError) as caught:
        np.ones(2**46)
    assert out_of_memory(caught.value).startswith("out of memory: Unable to allocate 512. TiB")
    wrapped = ModelError(Problem("x", "does not build"))
    wrapped.__cause__ = caught.value
    assert out_of_memory(wrapped) == out_of_memory(caught.value)
    # as jaxlib 0.7 and torch 2.9 have them, which need not be installed here
    jax = type("XlaRuntimeError", (RuntimeError,), {})
    torch = type("OutOfMemoryError", (RuntimeError,), {})
    cpu = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    for error in (
        jax("RESOURCE_EXHAUSTED: Out of memory allocating 4398046511104 bytes."),
        torch("CUDA out of memory. Tried to allocate 4096.00 GiB. GPU 0 has a total capacity of 79.1 GiB"),
        RuntimeError(cpu),
    ):
        assert out_of_memory(error) == f"out of memory: {error}"
    assert out_of_memory(jax("INVALID_ARGUMENT: no such shape")) == ""
    assert out_of_memory(ValueError("memory")) == ""


def test_a_full_disk_and_a_used_up_quota_are_known_and_other_errors_of_the_system_are_not() -> None:
    assert disk_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")) == "No space left on device"
    assert disk_full(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))) == "Disk quota exceeded"
    assert disk_full(OSError("Can't write data (errno = 28, error message = 'No space left on device')"))
    assert disk_full(PermissionError(errno.EACCES, os.strerror(errno.EACCES))) == ""
    assert disk_full(MemoryError()) == ""
    with pytest.raises(OSError, match="No space") as caught:
        Path("/dev/full").write_text("x")
    assert disk_full(caught.value)


def test_a_model_beyond_the_limits_is_turned_away_before_its_first_epoch(tiny: Path, tmp_path: Path) -> None:
    settings = settings_for({"kind": "baseline"})
    limits = {"parameters": 2_000_000, "multiply_adds": None, "memory": None, "silence": 60}
    (end,) = converse(tiny, tmp_path, settings, limits=limits)
    assert end == {
        "is": "infeasible",
        "constraint": "limits",
        "why": "model has 2.65 M parameters, study.limits.parameters is 2 M",
    }
    assert list(tmp_path.glob("*.npz")) == []


def kilobytes(child: int, what: str) -> int:
    """A line of what Linux knows of a process."""
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell the peak of a process")
def test_the_memory_that_training_takes_is_estimated_to_a_fifth(tiny: Path, tmp_path: Path) -> None:
    from fkpsearch.cost import cost_of, training_bytes

    wide = {"kind": "cnn", "blocks": 2, "width": 64, "doubled": True, "dense": {"width": 16}}
    settings = settings_for(wide, epochs=1, batch_size=28)
    sizes: dict[str, int] = {}
    what = {"ready": "VmRSS", "done": "VmHWM"}

    def watch(message: Message, child: int) -> None:
        if message["is"] in what:
            sizes[message["is"]] = 1024 * kilobytes(child, what[message["is"]])

    converse(tiny, tmp_path, settings, watch)
    estimate = sizes["ready"] + training_bytes(cost_of(settings.model), settings, 40)
    assert sizes["done"] > 1.5 * sizes["ready"]
    assert estimate == pytest.approx(sizes["done"], rel=0.2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs to mount a small file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_leaves_nothing_half_written_and_the_training_goes_on_once_there_is_room(
    tiny: Path, disk: Path
) -> None:
    folder, settings = disk / "trial", settings_for(NET)
    folder.mkdir()

    def names() -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    heard = converse(tiny, folder, settings, lambda message, _: fill(disk) if message.get("epoch") == 2 else None)
    assert [message["is"] for message in heard] == ["epoch", "epoch", "full"]
    assert heard[-1]["why"] == "No space left on device"
    assert names() == ["checkpoint.npz", "history.csv"]
    assert len((folder / "history.csv").read_text().splitlines()) == 3

    (disk / "filler").unlink()
    heard = converse(tiny, folder, settings, lambda message, _: fill(disk) if message["is"] == "done" else None)
    assert heard[0]["again"]
    assert [message["is"] for message in heard[-3:]] == ["epoch", "done", "full"]
    assert names() == ["checkpoint.npz", "history.csv", "validation.npz"]

    (disk / "filler").unlink()
    heard = converse(tiny, folder, settings)
    assert heard[0]["again"]
    assert [message["is"] for message in heard[-3:]] == ["epoch", "done", "saved"]
    assert names() == ["checkpoint.npz", "history.csv", "model.keras", "validation.npz"], "its end is yet to be told"
