"""A Ray cluster as a crew: one place for each of its GPUs, or for each N of its cores, wherever Ray finds room.

Each place has a `host`, an actor that Ray puts on a node, and that starts the place's training processes there. When
a node dies, its places get new hosts as soon as Ray has room for them; until then their children are not `placed`. The
storage is opened by the supervisor alone, here as everywhere.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from fkpsearch import __version__
from fkpsearch.child import Child, ChildDied
from fkpsearch.data import Data
from fkpsearch.environment import VARIABLES, backend
from fkpsearch.errors import InputError, Problem
from fkpsearch.host import Hello, Host, Parcel
from fkpsearch.messages import Refused
from fkpsearch.places import AUTO, Place, threads_environment
from fkpsearch.post import Post, RayChild, bring_home, death, ray_error
from fkpsearch.source import find_training

REACHING = 5.0
"""Seconds a cluster has to answer; Ray itself would try for many minutes"""

PARTING = 10.0
"""Seconds the end of a search waits for its hosts to end their children and to tidy up"""


class RayCrew:
    """The places of a cluster. It is connected to already, see :func:`ray_crew`."""

    def __init__(
        self,
        data: Data,
        where: Sequence[Place],
        needs: Mapping[str, float],
        *,
        per_gpu: int = 0,
        command: Sequence[str] | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        """``needs`` is what Ray reserves for a place; ``leave`` is called at the very end. See :func:`ray_crew`."""
        import ray

        source = find_training(data.folder)
        content = ray.put(np.fromfile(source.path, np.uint8))
        self._parcel = Parcel(source.path.name, source.fingerprint(), [content])
        self._data = str(data.folder.resolve())
        self._places, self._per_gpu, self._command, self._leave = tuple(where), per_gpu, command, leave
        self._actors = ray.remote(concurrency_groups={"ears": 1})(Host).options(**needs)
        self._run = uuid.uuid4().hex[:12]
        self._posts: dict[Place, Post] = {}
        self._started = 0
        self._answers: queue.SimpleQueue[tuple[Post, str, Future[Any]] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def places(self) -> Sequence[Place]:
        return self._places

    def start(self, place: Place, wake: Callable[[], None]) -> Child:
        post = self._posts.get(place)
        if post is None or post.closed:
            post = self._posts[place] = self._open(place)
        self._started += 1
        child = RayChild(self._started, post, wake)
        post.children[child.number] = child
        post.tell("start", child.number)
        if post.closed:  # it died in between, and may not have known of this child
            child.say(ChildDied("its host died"))
        return child

    def _open(self, place: Place) -> Post:
        """Ask Ray for a host for a place."""
        environment = {"KERAS_BACKEND": backend(), **place.environment}
        environment |= {name: os.environ[name] for name in VARIABLES if name in os.environ}
        actor = self._actors.remote(self._run, environment, self._command, str(Path.cwd()), self._per_gpu)
        post = Post(actor, self._data, self._answers)
        post.ask("hello")
        post.ask("unpack", self._parcel)
        post.ask("hear")
        return post

    # ---- listening

    def _listen(self) -> None:
        """Hear all hosts, in a thread of its own."""
        while (one := self._answers.get()) is not None:
            post, what, answer = one
            if post.closed:
                continue
            try:
                self._take_in(post, what, answer.result())
            except Exception as why:  # whatever ends a host ends its children
                post.end(death(why, post))

    def _take_in(self, post: Post, what: str, answer: Any) -> None:
        match what:
            case "hello":
                self._greet(post, answer)
            case "hear":
                post.ask("hear")
                for heard in answer:
                    post.deliver(heard)

    def _greet(self, post: Post, hello: Hello) -> None:
        post.hello = hello
        if hello.version != __version__:
            rule = f"has fkpsearch {hello.version}, the supervisor {__version__}"
            line = f"node {hello.name}: {rule}; install the same on both"
            post.say_to_all(Refused.model_validate({"is": "refused", "lines": [line]}))

    # ---- ends

    def collect(self, child: Child, folder: Path) -> None:
        assert isinstance(child, RayChild)
        bring_home(child.files, folder)

    def close(self) -> None:
        """End all processes and give the cluster back."""
        import ray

        posts = [post for post in self._posts.values() if not post.closed]
        self._answers.put(None)
        self._listener.join()
        ends = [post.actor.close.remote() for post in posts if post.hello and not post.closed]
        with contextlib.suppress(ray_error()):
            ray.wait(ends, num_returns=max(1, len(ends)), timeout=PARTING) if ends else None
        for post in posts:
            post.end()
        self._leave()


def ray_crew(
    address: str,
    data: Data,
    cpus: int | None,
    trials: int,
    *,
    workers: int | None = None,
    per_gpu: int = 1,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> RayCrew:
    """Connect to the cluster at ``address`` and make places of its GPUs, or of each ``cpus`` of its cores.

    ``address`` is ``HOST:PORT``, or ``auto`` for the cluster of this machine, which is started where there is none.
    There are no more places than ``trials``, and ``workers`` of them if that is said, though Ray may have no room for
    so many yet. ``per_gpu`` places share a GPU. ``command`` trains in place of fkpsearch.worker, ``environment`` is
    added to its own. Raises InputError.
    """
    if cpus is not None and cpus < 1:
        raise InputError(Problem("--cpus", "must be 1 or more", cpus))
    if per_gpu < 1:
        raise InputError(Problem("--per-gpu", "must be 1 or more", per_gpu))
    leave = connect(address)
    try:
        count = min(trials, workers or room(cpus, per_gpu))
        where = [place_of(number, cpus, per_gpu, environment or {}) for number in range(1, count + 1)]
        needs = {"num_cpus": cpus, "num_gpus": 0} if cpus else {"num_cpus": 0, "num_gpus": 1 / per_gpu}
        return RayCrew(data, where, needs, per_gpu=0 if cpus else per_gpu, command=command, leave=leave)
    except BaseException:
        leave()
        raise


def place_of(number: int, cpus: int | None, per_gpu: int, environment: Mapping[str, str]) -> Place:
    """One place. Its number sets it apart from the others: a spare child serves no other place than its own."""
    if cpus is None:
        return Place(f"Ray GPU {number}" if per_gpu == 1 else f"Ray 1/{per_gpu} GPU {number}", environment, 1 / per_gpu)
    cores = f"{cpus} core{'s' if cpus > 1 else ''}"
    return Place(f"Ray {number} ({cores})", {**threads_environment(cpus), **environment}, 0.0)


def room(cpus: int | None, per_gpu: int) -> int:
    """For how many workers the cluster has GPUs, or ``cpus`` cores each. Raises InputError where for none."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if cpus is None:
        if gpus := sum(int(node.get("GPU", 0)) for node in nodes):
            return gpus * per_gpu
        raise InputError(Problem("--ray", "the cluster has no GPU", advice="say how many cores a worker has: --cpus N"))
    if found := sum(int(node.get("CPU", 0)) // cpus for node in nodes):
        return found
    most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    raise InputError(Problem("--cpus", f"no node of the cluster has more than {most} cores", cpus))


def connect(address: str) -> Callable[[], None]:
    """Connect this process to a cluster, quietly; returns what takes the connection back. Raises InputError."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError:
        raise InputError(Problem("--ray", "needs Ray", advice="pip install 'fkpsearch[ray]'")) from None
    if ray.is_initialized():
        return lambda: None
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS") or AUTO
    if address != AUTO:
        check_reach(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    try:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError:
            if address != AUTO:
                raise
            ray.init(include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as why:
        told = " ".join(str(why).split())[:300]
        raise InputError(Problem("--ray", f"cannot join the cluster: {told}", address)) from None
    hush(True)

    def leave() -> None:
        ray.shutdown()
        hush(False)

    return leave


def check_reach(address: str) -> None:
    """Raises InputError where nobody answers at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        advice = "write HOST:PORT, on a machine of the cluster, or auto"
        raise InputError(Problem("--ray", "is not the address of a cluster", address, advice))
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHING).close()
    except (OSError, OverflowError) as why:
        advice = "start one with `ray start --head`, or say auto"
        raise InputError(Problem("--ray", f"no cluster answers ({why})", address, advice)) from None


def hush(quiet: bool) -> None:
    """Whether Ray's own words about its nodes stay off the screen, which belongs to the live table."""
    from ray._private import worker

    worker._worker_logs_enabled = not quiet
