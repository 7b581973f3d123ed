"""A Ray cluster as a crew: one place for each of its GPUs, or for each N of its cores, wherever Ray finds room.

Each place has a `host`, an actor that Ray puts on a node, and that starts the place's training processes there. When
a node dies, its places get new hosts as soon as Ray has room for them; until then their children are not `placed`. The
storage is opened by the supervisor alone, here as everywhere.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
import threading
import time
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
from fkpsearch.host import Files, Heard, Hello, Host, Parcel
from fkpsearch.messages import Full, Message, Refused
from fkpsearch.places import AUTO, Place, threads_environment
from fkpsearch.plain import writing
from fkpsearch.source import find_training

REACHING = 5.0
"""Seconds a cluster has to answer; Ray itself would try for many minutes"""

PARTING = 10.0
"""Seconds the end of a search waits for what its hosts still have to say"""

ANSWERS = ("hello", "unpack", "hear")
"""What hosts are asked and somebody waits for the answer"""


class RayChild:
    """A training process on a node, seen from the supervisor."""

    def __init__(self, number: int, post: Post, wake: Callable[[], None]) -> None:
        self.number, self._post, self._wake = number, post, wake
        self.files: Files = {}
        """What it has left for its trial's folder"""
        self.home: Path | None = None
        """That folder"""
        self._pid, self._memory, self._asked = 0, 0, False
        self._heard: queue.Queue[Message | ChildDied] = queue.Queue()

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def placed(self) -> bool:
        return self._post.hello is not None or self._post.closed

    def send(self, do: str, **content: object) -> None:
        if do == "train":
            self.home = Path(str(content["folder"]))
            content["data"] = self._post.data
        self._post.tell("send", self.number, do, content)

    def receive(self, timeout: float) -> Message | None:
        try:
            message = self._heard.get(timeout=timeout) if timeout else self._heard.get_nowait()
        except queue.Empty:
            return None
        if isinstance(message, ChildDied):
            self._heard.put(message)  # it stays dead for the next caller
            raise message
        return message

    def memory(self) -> int:
        if not self._asked and self._pid:
            self._asked = True
            self._post.ask("memory", self.number, then=self._weigh)
        return self._memory

    def _weigh(self, answer: Future[int]) -> None:
        self._asked = False
        self._memory = answer.result() if not answer.exception() else self._memory

    def release(self) -> None:
        self._post.tell("release", self.number)

    def kill(self) -> None:
        """End it; the host does so before it does anything else that it is told from now on."""
        self._post.children.pop(self.number, None)
        self._post.tell("kill", self.number)

    def say(self, message: Message | ChildDied, pid: int = 0) -> None:
        """It has said something."""
        self._pid = pid or self._pid
        self._heard.put(message)
        self._wake()


class Post:
    """The host of one place, from the moment Ray is asked for it to its death."""

    def __init__(self, actor: Any, data: str, answers: queue.SimpleQueue[Any]) -> None:
        """``data`` is the data folder's name at home; what the actor answers is put into ``answers``."""
        self.actor, self.data, self._answers = actor, data, answers
        self.children: dict[int, RayChild] = {}
        self.hello: Hello | None = None
        """Where it is; None while Ray has no room for it"""
        self.closed = False

    def tell(self, what: str, *content: object) -> None:
        """Tell the actor something; whether it still lives shows elsewhere."""
        if not self.closed:
            with contextlib.suppress(_errors()):
                getattr(self.actor, what).remote(*content)

    def ask(self, what: str, *content: object, then: Callable[[Future[Any]], None] | None = None) -> None:
        """Ask the actor something."""
        method = getattr(self.actor, what)
        if what == "hear":
            method = method.options(concurrency_group="ears")
        then = then or (lambda answer: self._answers.put((self, what, answer)))
        method.remote(*content).future().add_done_callback(then)

    def say_to_all(self, message: Message | ChildDied) -> None:
        """Let every child have said the same."""
        for child in list(self.children.values()):
            child.say(message)


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
            if why := answer.exception():
                self._bury(post, death(why, post))
            elif what == "hello":
                self._greet(post, answer.result())
            elif what == "hear":
                post.ask("hear")
                for heard in answer.result():
                    deliver(post, heard)

    def _greet(self, post: Post, hello: Hello) -> None:
        post.hello = hello
        if hello.version != __version__:
            rule = f"has fkpsearch {hello.version}, the supervisor {__version__}"
            line = f"node {hello.name}: {rule}; install the same on both"
            post.say_to_all(Refused.model_validate({"is": "refused", "lines": [line]}))

    def _bury(self, post: Post, why: ChildDied) -> None:
        """A host is gone, and its children with it."""
        post.closed = True
        post.say_to_all(why)
        _kill(post.actor)

    # ---- ends

    def collect(self, child: Child, folder: Path) -> None:
        assert isinstance(child, RayChild)
        bring_home(child.files, folder)

    def close(self) -> None:
        """End all processes and give the cluster back; what pruned trials have left may still come home."""
        import ray

        posts = [post for post in self._posts.values() if not post.closed]
        deadline = time.monotonic() + PARTING
        while any(post.children for post in posts if not post.closed) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._answers.put(None)
        self._listener.join()
        ends = [post.actor.close.remote() for post in posts if post.hello and not post.closed]
        with contextlib.suppress(_errors()):
            ray.wait(ends, num_returns=max(1, len(ends)), timeout=PARTING) if ends else None
        for post in posts:
            post.closed = True
            _kill(post.actor)
        self._leave()


def deliver(post: Post, heard: Heard) -> None:
    """Let a child have said what its host heard."""
    child = post.children.get(heard.child)
    if child is None:
        return
    message = heard.message
    if message is None:  # it has left, with no more than its trial's notes
        post.children.pop(heard.child)
        if child.home:
            with contextlib.suppress(OSError):
                bring_home(heard.files, child.home)
        return
    if isinstance(message, Full) and post.hello:
        message = message.model_copy(update={"why": f"node {post.hello.name}: {message.why}"})
    child.files = heard.files or child.files  # its end, which follows at once, brings none
    child.say(message, heard.pid)


def bring_home(files: Files, folder: Path) -> None:
    """Write a trial's files into its folder, each whole or not at all. Raises OSError."""
    for name, content in files.items():
        with writing(folder / name, "wb") as file:
            file.write(content.data)


NODE_DIED = re.compile("its node has died")
"""How Ray says so"""


def death(why: BaseException, post: Post) -> ChildDied:
    """A host's end as that of its children."""
    name = f"node {post.hello.name}" if post.hello else "a node"
    lines = [line.strip() for line in str(why).splitlines() if line.strip()] or [type(why).__name__]
    if any(NODE_DIED.search(line) for line in lines):
        return ChildDied(f"{name} of the cluster died", node=True)
    told = lines[-1]  # of an error on the node, which brings its traceback along
    if isinstance(why, _errors()) and "creation task" not in str(why):
        told = next((line for line in lines if line.startswith("The actor ") and "because" in line), told)
    return ChildDied(f"{name} of the cluster: {told[:300]}")


# ---- the cluster


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


def _errors() -> type[Exception]:
    from ray.exceptions import RayError

    return RayError  # type: ignore[no-any-return]


def _kill(actor: Any) -> None:
    import ray

    with contextlib.suppress(_errors()):
        ray.kill(actor)
