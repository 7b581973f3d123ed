"""Where workers train: GPUs as nvidia-smi and CUDA_VISIBLE_DEVICES have them, cores as the kernel gives them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from fkpsearch.errors import InputError
from fkpsearch.places import Place, find_gpus, places, quota_of


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("FKPSEARCH_THREADS", raising=False)
    monkeypatch.setattr("fkpsearch.places.cgroups", list)  # no quota, wherever these tests run


def refusal(*arguments: object, **more: object) -> str:
    with pytest.raises(InputError) as why:
        places(*arguments, trials=10, **more)  # type: ignore[arg-type]
    return str(why.value)


@pytest.mark.usefixtures("no_gpu")
def test_one_worker_on_a_cpu_has_all_the_cores_this_process_may_use() -> None:
    (place,) = places(1, trials=10)
    assert place.threads == len(os.sched_getaffinity(0))
    assert place.share == 0
    assert "CUDA_VISIBLE_DEVICES" not in place.environment


@pytest.mark.usefixtures("no_gpu")
def test_a_process_bound_to_one_core_has_one() -> None:
    code = "from fkpsearch.places import places; print(*[one.label for one in places('auto', trials=9)])"
    done = subprocess.run(
        ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 core\n"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("workers", "threads"), [(1, [8]), (2, [4, 4]), (3, [2, 2, 2]), (8, [1] * 8), (12, [1] * 12)])
def test_workers_divide_the_cores(monkeypatch: pytest.MonkeyPatch, workers: int, threads: list[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    made = places(workers, trials=1)
    assert [int(place.environment["TF_NUM_INTRAOP_THREADS"]) for place in made] == threads
    assert len(set(made)) == 1  # one warm process serves them all


@pytest.mark.usefixtures("no_gpu")
def test_the_user_may_lend_the_workers_fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("FKPSEARCH_THREADS", "4")
    assert [place.threads for place in places(2, trials=1)] == [2, 2]


@pytest.mark.usefixtures("no_gpu")
def test_auto_starts_no_more_workers_than_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert len(places("auto", trials=3)) == 3


@pytest.mark.usefixtures("two_gpus")
def test_every_gpu_gets_a_worker_and_its_part_of_the_cores() -> None:
    made = places("auto", trials=10)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in made] == ["0", "1"]
    assert [place.threads for place in made] == [4, 4]
    assert [place.share for place in made] == [1, 1]
    assert all("FKPSEARCH_GPU_MEMORY" not in place.environment for place in made)


@pytest.mark.usefixtures("two_gpus")
def test_workers_that_share_a_gpu_leave_room_for_each_other_and_for_a_spare() -> None:
    made = places("auto", per_gpu=2, trials=10)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in made] == ["0", "1", "0", "1"]
    assert [place.share for place in made] == [0.5] * 4
    assert {place.environment["FKPSEARCH_ON_GPU"] for place in made} == {"1"}
    for place, memory in zip(made, (81559, 40960) * 2, strict=True):
        assert 0.9 * memory < 2 * int(place.environment["FKPSEARCH_GPU_MEMORY"]) + 3 * 600 <= memory
    assert len(set(made)) == 2


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "seen"),
    [("1", ["1"]), ("1,0", ["1", "0"]), ("", []), ("-1", []), ("GPU-bb", ["GPU-bb"]), ("0,9,1", ["0"])],
)
def test_visible_devices_are_respected_as_cuda_reads_them(
    monkeypatch: pytest.MonkeyPatch, visible: str, seen: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = places("auto", trials=len(seen) or 1)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in made if place.share] == seen


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("status", "says", "told"),
    [
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", None),
        (6, "No devices were found", None),
        (15, "0, GPU-aaaa, 40000, NVIDIA A100", ["0"]),
        (
            15,
            "Unable to determine the device handle",
            "nvidia-smi: fails: Unable to determine the device handle (",
        ),
    ],
    ids=["no driver", "no device", "one of two is lost", "nobody knows"],
)
def test_a_driver_that_fails_is_not_taken_for_none(
    status: int, says: str, told: list[str] | str | None, tmp_path: Path
) -> None:
    """Else dozens of workers of a core each would all take the same GPU."""
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\necho "{says}"\nexit {status}\n')
    if isinstance(told, str):
        with pytest.raises(InputError) as why:
            find_gpus()
        assert str(why.value).startswith(told)
    else:
        assert [gpu.name for gpu in find_gpus()] == (told or [])


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "order", "memory"),
    [("0", None, 40960), ("0", "PCI_BUS_ID", 81559), ("GPU-aa", None, 81559)],
)
def test_where_cuda_may_count_otherwise_a_gpu_has_the_memory_of_the_smallest(
    visible: str, order: str | None, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if order:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    assert [gpu.memory for gpu in find_gpus()] == [memory]


@pytest.mark.usefixtures("two_gpus")
def test_more_workers_than_the_gpus_take_are_refused_with_what_to_write() -> None:
    assert refusal(5, per_gpu=2) == (
        "--workers: must be at most 4 on this machine (got 5); --per-gpu 3 lets them share a GPU"
    )


@pytest.mark.usefixtures("no_gpu")
def test_what_no_machine_has_is_refused() -> None:
    assert refusal(1, per_gpu=2) == "--per-gpu: needs a GPU and this machine shows none (got 2); leave it out"
    assert refusal(0) == "--workers: must be 1 or more, or auto (got 0)"
    assert refusal(1, per_gpu=0) == "--per-gpu: must be 1 or more (got 0)"
    assert refusal(10**6).startswith("--workers: must be at most ")


def test_a_place_cannot_be_changed_but_shipped() -> None:
    place = Place("GPU 0", {"CUDA_VISIBLE_DEVICES": "0"}, 1.0)
    with pytest.raises(TypeError):
        place.environment["CUDA_VISIBLE_DEVICES"] = "1"  # type: ignore[index]
    assert pickle.loads(pickle.dumps(place)) == place
    assert place != Place("GPU 0", {"CUDA_VISIBLE_DEVICES": "1"}, 1.0)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_control_group_says_how_many_cores_it_lends(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert quota_of(tmp_path) == cores
