"""What serves one place of a Ray cluster, on its node: starts training processes there and passes on what they say.

`cluster` makes a Ray actor of a `Host`, which lives as long as its place has a node. Ray itself is imported only where
it is asked for something. A host keeps two threads apart: one follows what it is told, in order, the other one hears.

    ~/.cache/fkpsearch/ray/
      data-<hash>/       the training file, brought once to each node
      run-<id>/0007/     what a trial's process writes while it trains; goes home, or away
"""

from __future__ import annotations

import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fkpsearch import __version__
from fkpsearch.child import WORKER, ChildDied, Process
from fkpsearch.data import load_data
from fkpsearch.entries import cache_folder
from fkpsearch.messages import Epoch, Message, Saved
from fkpsearch.places import cores, find_gpus, on_gpu, threads_environment
from fkpsearch.plain import writing
from fkpsearch.shelf import METRICS, RESULTS

HEARING = 60.0
"""Seconds after which a call that hears nothing returns"""

ALONE = 300.0
"""Seconds without a call of :meth:`Host.hear` after which a host knows that it is forgotten, and ends"""

STALE = 7 * 24 * 3600.0
"""Seconds after which what a killed run has left on a node is removed"""

Files = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Parcel:
    """The training file on its way to the nodes."""

    name: str
    key: str
    """Hash of its content"""
    content: list[Any]
    """One reference into Ray's object store, uint8 ``[bytes]``; in a list, so that a node fetches it only once"""


@dataclass(frozen=True)
class Hello:
    """Where a host has come to be."""

    node: str
    """Ray's id of it"""
    name: str
    version: str
    """Of this package"""


@dataclass(frozen=True)
class Heard:
    """What a training process has said."""

    child: int
    pid: int
    message: Message | ChildDied
    files: Files = field(default_factory=dict)
    """What it has left for its trial's folder so far, by name; none where that has not changed"""


@dataclass
class Kept:
    """A training process and what is known of it."""

    process: Process
    folder: Path | None = None
    """Its trial's"""
    leaving: bool = False
    """It has said all that matters"""
    dead: bool = False


class Host:
    """The processes of one place."""

    def __init__(
        self,
        run: str,
        environment: Mapping[str, str],
        command: Sequence[str] | None,
        working_folder: str,
        per_gpu: int = 0,
    ) -> None:
        """``run`` is one for all hosts of a search; ``working_folder`` is the supervisor's, used if it is here.

        ``per_gpu`` hosts share a GPU; 0 of them where it has cores only.
        """
        if Path(working_folder).is_dir():  # a shared file system: relative paths in settings mean the same
            os.chdir(working_folder)
        self._home = cache_folder().resolve() / "ray"
        self._trials = self._home / f"run-{run}"
        self._environment, self._per_gpu = dict(environment), per_gpu
        self._command = tuple(command or WORKER)
        self._data = self._home
        self._children: dict[int, Kept] = {}
        self._stillborn: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._spoke = threading.Event()
        self._called = time.monotonic()

    def _watch(self, node: int) -> None:
        """End this process, and so its children, when its node's raylet is gone, or the supervisor."""
        while os.getppid() == node and time.monotonic() - self._called < ALONE:
            time.sleep(1)
        os._exit(1)

    def hello(self) -> Hello:
        """Where this is. From now on it ends by itself when nobody needs it any more."""
        import ray

        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
        node = ray.get_runtime_context().get_node_id()
        if self._per_gpu:  # the node's cores are divided among the workers of its GPUs
            gpus = next((int(row["Resources"].get("GPU", 1)) for row in ray.nodes() if row["NodeID"] == node), 1)
            self._environment = {**gpu_environment(self._per_gpu, gpus), **self._environment}
        return Hello(node, socket.gethostname(), __version__)

    def unpack(self, parcel: Parcel) -> None:
        """See that the data is on this node, read and cached; the hosts of a node wait for each other.

        Raises DataError, OSError.
        """
        import ray

        self._data = self._home / f"data-{parcel.key}"
        self._data.mkdir(parents=True, exist_ok=True)
        with FileLock(self._data.with_suffix(".lock")):
            for old in self._home.glob("run-*"):
                if time.time() - old.stat().st_mtime > STALE:
                    shutil.rmtree(old, ignore_errors=True)
            if not (self._data / parcel.name).exists():
                with writing(self._data / parcel.name, "wb") as file:
                    file.write(ray.get(parcel.content[0]).data)
            load_data(self._data)

    # ---- told

    def start(self, child: int) -> None:
        """Begin to start the process number ``child``."""
        try:
            process = Process(self._data, self._environment, self._spoke.set, self._command)
        except OSError as why:
            self._stillborn.put(Heard(child, 0, ChildDied(f"{socket.gethostname()}: {why}")))
        else:
            self._children[child] = Kept(process)
        self._spoke.set()

    def send(self, child: int, do: str, content: dict[str, Any]) -> None:
        """Tell a process something. A job's folder becomes one on this node."""
        if kept := self._children.get(child):
            if do == "train":
                kept.folder = self._trials / Path(content["folder"]).name
                kept.folder.mkdir(parents=True, exist_ok=True)
                content = {**content, "folder": str(kept.folder)}
            kept.process.send(do, **content)

    def memory(self, child: int) -> int:
        """Bytes resident of a process."""
        kept = self._children.get(child)
        return kept.process.memory() if kept else 0

    def release(self, child: int) -> None:
        """Let a process leave; its trial's folder goes with it."""
        if kept := self._children.get(child):
            kept.leaving = True
            kept.process.release()
            self._spoke.set()

    def kill(self, child: int) -> None:
        """End a process; its trial's folder stays for whoever goes on with the trial on this node."""
        if kept := self._children.pop(child, None):
            kept.process.kill()

    def close(self) -> None:
        """End them all and tidy up."""
        for child in list(self._children):
            self.kill(child)
        shutil.rmtree(self._trials, ignore_errors=True)

    # ---- heard

    def hear(self) -> list[Heard]:
        """What the processes have said since the last call, as soon as there is something."""
        self._called = time.monotonic()
        self._spoke.wait(HEARING)
        self._spoke.clear()
        found = [heard for child in list(self._children) for heard in self._drain(child)]
        while not self._stillborn.empty():
            found.append(self._stillborn.get())
        return found

    def _drain(self, child: int) -> Iterator[Heard]:
        kept = self._children.get(child)
        if kept is None:
            return
        try:
            while not kept.dead and (message := kept.process.receive(0)):
                if not kept.leaving:
                    yield Heard(child, kept.process.pid, message, left(kept.folder, message))
        except ChildDied as death:
            kept.dead = True
            if not kept.leaving:
                yield Heard(child, kept.process.pid, death)
        if kept.dead and kept.leaving:
            self._children.pop(child, None)
            if kept.folder:
                shutil.rmtree(kept.folder, ignore_errors=True)


def gpu_environment(per_gpu: int, gpus: int) -> Mapping[str, str]:
    """Of one of ``per_gpu`` workers of the GPU that Ray lets this process see, on a node that has ``gpus`` of them."""
    threads = max(1, cores() // (per_gpu * max(1, gpus)))
    found = find_gpus()
    return on_gpu(found[0], per_gpu, threads).environment if found else threads_environment(threads)


def left(folder: Path | None, message: Message) -> Files:
    """What a child that says so has written into its trial's folder for others."""
    names = METRICS if isinstance(message, Epoch) else RESULTS if isinstance(message, Saved) else ()
    paths = [folder / name for name in names] if folder else []
    return {path.name: np.fromfile(path, np.uint8) for path in paths if path.is_file()}
