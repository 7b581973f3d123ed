"""A search over a Ray cluster of three nodes on loopback: all of it real but the tiny trainer in place of Keras."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny

from fkpsearch.data import Data, load_data
from fkpsearch.events import Event, TrialFinished, TrialRetried, TrialStarted
from fkpsearch.study import search

pytest.importorskip("ray", reason="needs Ray: pip install 'fkpsearch[ray]'")

STORE = 80 * 2**20
"""Bytes of a node's object store: about the least Ray takes"""


class Cluster:
    """Three nodes on loopback, each a raylet of its own: one core at the head, two and one at the others."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        node: dict[str, Any] = {"object_store_memory": STORE}
        head = {"num_cpus": 1, "include_dashboard": False, **node}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._others = [self._cluster.add_node(num_cpus=count, wait=False, **node) for count in (2, 1)]
        self._cluster.wait_for_nodes()

    def kill(self) -> None:
        """Kill -9 the raylet of the node with two cores."""
        os.kill(self._others[0].all_processes["raylet"][0].process.pid, 9)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Its head counts a node as dead after two seconds of silence instead of fifteen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_initial_delay_ms", "500")
        patch.setenv("RAY_health_check_period_ms", "400")
        made = Cluster()
        try:
            yield made
        finally:
            made.close()


def tiny_crew(cluster: Cluster, data: Data, epoch: float) -> Any:
    from fkpsearch.cluster import ray_crew

    environment = {"TINY_FINGERPRINT": data.faces.fingerprint, "TINY_EPOCH": str(epoch)}
    return ray_crew(cluster.address, data, 1, 1000, command=tiny.COMMAND, environment=environment)


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
    assert all("died" in event.reason for event in lost)
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


def wait_until(holds: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
