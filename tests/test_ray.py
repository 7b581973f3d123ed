"""A search over a Ray cluster of three nodes on loopback: all of it real but the tiny trainer in place of Keras."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny

from fkpsearch import __version__, supervisor
from fkpsearch.cluster import RayCrew, check_reach, connect, ray_crew
from fkpsearch.data import Data, load_data
from fkpsearch.errors import InputError
from fkpsearch.events import EpochDone, Event, TrialFinished, TrialRetried, TrialStarted, Waiting
from fkpsearch.messages import Ready
from fkpsearch.places import CONTEXT, cores
from fkpsearch.study import search

pytest.importorskip("ray", reason="needs Ray: pip install 'fkpsearch[ray]'")

STORE = 80 * 2**20
"""Bytes of a node's object store: about the least Ray takes"""


class Cluster:
    """Three nodes on loopback, each a raylet of its own: one core and a GPU at the head, two and one at the others.

    The GPU is Ray's word, and that of an nvidia-smi of our own.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        node: dict[str, Any] = {"object_store_memory": STORE, "include_log_monitor": False}
        head = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False, **node}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._others = [self._cluster.add_node(num_cpus=count, wait=False, **node) for count in (2, 1)]
        self._cluster.wait_for_nodes()

    def kill(self) -> None:
        """Kill -9 the raylet of the node with two cores."""
        os.kill(self._others[0].all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Its head counts a node as dead after two seconds of silence instead of fifteen."""
    programs = tmp_path_factory.mktemp("programs")
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho '0, GPU-aaaa, 40000, NVIDIA A100'\n")
    (programs / "nvidia-smi").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_initial_delay_ms", "500")
        patch.setenv("RAY_health_check_period_ms", "400")
        made = Cluster()
        leave = connect(made.address)
        try:
            yield made
        finally:
            leave()
            made.close()


def tiny_crew(cluster: Cluster, data: Data, epoch: float, *, cpus: int | None = 1, **more: Any) -> RayCrew:
    environment = {"TINY_FINGERPRINT": data.faces.fingerprint, "TINY_EPOCH": str(epoch)}
    return ray_crew(cluster.address, data, cpus, 1000, command=tiny.COMMAND, environment=environment, **more)


def trainers() -> list[psutil.Process]:
    """The tiny trainers on this machine."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(tiny.TRAINER) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_a_search_whose_node_dies_midway_has_exactly_its_trials_and_all_models_at_home(
    cluster: Cluster, tmp_path: Path, shared_tiny: Path
) -> None:
    data = load_data(shared_tiny)
    events: list[Event] = []
    killed: list[float] = []

    def watch(event: Event) -> None:
        events.append(event)
        if not killed and sum(isinstance(one, TrialFinished) for one in events) == 10:
            cluster.kill()
            killed.append(time.monotonic())

    folder = tmp_path / "study"
    crew = tiny_crew(cluster, data, 0.3)
    assert len(crew.places) == 4
    ledger = search(tiny.space_of(), data, folder, trials=40, seed=3, crew=crew, watch=watch, keep=6)

    states = [trial.state.name for trial in ledger.trials]
    assert len(states) == 40
    assert set(states) <= {"COMPLETE", "PRUNED"}
    lost = [event for event in events if isinstance(event, TrialRetried)]
    assert lost  # two trials were on that node, or at least one
    host = socket.gethostname()
    assert {event.reason for event in lost} <= {
        f"node {host} of the cluster {how}" for how in ("died", "is out of reach")
    }
    assert len({event.place for event in events if isinstance(event, TrialStarted)}) == 4

    best = sorted((trial.value, trial.number) for trial in ledger.trials if trial.state.name == "COMPLETE")[:6]
    models = {path.parent.name: path.read_text() for path in folder.glob("trials/*/model.keras")}
    assert models == {f"{number:04}": f"the model of {number:04}: {value}" for value, number in best}
    for trial in ledger.trials:
        home = folder / "trials" / f"{trial.number:04}"
        epochs = len((home / "history.csv").read_text().splitlines()) - 1
        assert epochs == len(trial.intermediate_values)
        if trial.state.name == "COMPLETE":
            assert (home / "validation.npz").read_text() == str(trial.value)
    wait_until(lambda: not trainers())
    assert not list(Path(os.environ["FKPSEARCH_CACHE"]).glob("ray/run-*"))


def test_a_killed_process_is_followed_on_its_node_and_places_without_room_hold_nothing_up(
    cluster: Cluster, tmp_path: Path, shared_tiny: Path
) -> None:
    data = load_data(shared_tiny)
    pids: dict[int, int] = {}
    epochs: list[int] = []
    retried: list[int] = []

    def watch(event: Event) -> None:
        match event:
            case TrialStarted(number=number, pid=pid):
                pids[number] = pid
            case EpochDone(number=0, epoch=epoch):
                epochs.append(epoch)
                if epoch == 2 and not retried:
                    os.kill(pids[0], signal.SIGKILL)
            case TrialRetried(number=number):
                retried.append(number)

    # the last test has left room for two
    crew = tiny_crew(cluster, data, 0.1, workers=5)
    ledger = search(tiny.space_of(pruner="never"), data, tmp_path / "study", trials=5, seed=3, crew=crew, watch=watch)
    assert [trial.state.name for trial in ledger.trials] == ["COMPLETE"] * 5
    assert retried == [0]
    assert epochs in ([1, 2, 2, 3], [1, 2, 3])  # never the first again: the second was on the node, or the third


def test_a_search_without_any_room_says_so_once_and_goes_on_when_there_is_some(
    cluster: Cluster, tmp_path: Path, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Somebody:
        def works(self) -> bool:
            return True

    monkeypatch.setattr(supervisor, "ROOM", 1.0)
    data = load_data(shared_tiny)
    said: list[str] = []
    others = [ray.remote(Somebody).options(num_cpus=1).remote() for _ in range(2)]
    ray.get([one.works.remote() for one in others])

    def watch(event: Event) -> None:
        if isinstance(event, Waiting):
            said.append(event.why)
            ray.kill(others[0])

    crew = tiny_crew(cluster, data, 0)
    ledger = search(tiny.space_of(), data, tmp_path / "study", trials=2, seed=3, crew=crew, watch=watch)
    ray.kill(others[1])
    assert len(ledger.finished()) == 2
    assert said == ["no machine has room for a training process"]


def test_two_processes_of_a_gpu_see_it_and_share_its_memory(
    cluster: Cluster, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")  # a supervisor's own, which its children shall have as well
    data = load_data(shared_tiny)
    crew = tiny_crew(cluster, data, 0, cpus=None, per_gpu=2)
    assert [(place.label, place.share) for place in crew.places] == [("Ray 1/2 GPU 1", 0.5), ("Ray 1/2 GPU 2", 0.5)]
    try:
        children = [crew.start(place, lambda: None) for place in crew.places]
        for child in children:
            assert child.receive(60) == Ready.model_validate({"is": "ready", "fingerprint": data.faces.fingerprint})
            its = psutil.Process(child.pid).environ()
            assert (its["CUDA_VISIBLE_DEVICES"], its["TF_DETERMINISTIC_OPS"]) == ("0", "1")
            assert its["FKPSEARCH_GPU_MEMORY"] == str((40000 - 3 * CONTEXT) // 2)
            assert its["OMP_NUM_THREADS"] == its["FKPSEARCH_THREADS"] == str(max(1, cores() // 2))
            wait_until(lambda child=child: child.memory() > 2**20)  # type: ignore[misc]
            assert child.memory() == pytest.approx(psutil.Process(child.pid).memory_info().rss, rel=0.1)
    finally:
        crew.close()
    wait_until(lambda: not trainers())


def test_a_node_with_another_version_is_refused_with_the_difference(
    cluster: Cluster, tmp_path: Path, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkpsearch.cluster.__version__", "0.0.1")
    data = load_data(shared_tiny)
    with pytest.raises(InputError, match=rf"has fkpsearch {__version__}, the supervisor 0\.0\.1; install the same"):
        search(tiny.space_of(), data, tmp_path / "study", trials=2, seed=3, crew=tiny_crew(cluster, data, 0))


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", r"--ray: no cluster answers \(.*refused\) \(got 127.0.0.1:1\); start one with"),
        ("ray://127.0.0.1:1", r"--ray: is not the address of a cluster \(got ray://127.0.0.1:1\); write HOST:PORT"),
        ("somewhere", r"--ray: is not the address of a cluster \(got somewhere\); write HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        check_reach(address)


def wait_until(holds: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
