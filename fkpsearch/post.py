"""A host on a cluster's node and the training processes there, seen from the supervisor."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from fkpsearch.child import ChildDied
from fkpsearch.host import Files, Heard, Hello
from fkpsearch.messages import Full, Message
from fkpsearch.plain import writing
from fkpsearch.run_folder import CHECKPOINT


class RayChild:
    """A training process on a node, seen from the supervisor."""

    def __init__(self, number: int, post: Post, wake: Callable[[], None]) -> None:
        self.number, self._post, self._wake = number, post, wake
        self.files: Files = {}
        """What it has left for its trial's folder"""
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
        if not (self._asked or self._post.closed) and self._pid:
            self._asked = True
            with contextlib.suppress(ray_error()):
                self._post.ask("memory", self.number, then=self._weigh)
        return self._memory

    def _weigh(self, answer: Future[int]) -> None:
        self._asked = False
        self._memory = answer.result() if not answer.exception() else self._memory

    def release(self) -> None:
        self._post.children.pop(self.number, None)
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
            with contextlib.suppress(ray_error()):
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

    def deliver(self, heard: Heard) -> None:
        """Let a child have said what its host heard, unless nobody listens to it any more."""
        child = self.children.get(heard.child)
        if child is None:
            return
        message = heard.message
        if isinstance(message, Full) and self.hello:
            message = message.model_copy(update={"why": f"node {self.hello.name}: {message.why}"})
        child.files = heard.files or child.files
        child.say(message, heard.pid)

    def end(self, death: ChildDied | None = None) -> None:
        """The host is no more, be it dead or not wanted any longer."""
        import ray

        self.closed = True
        if death:
            self.say_to_all(death)
        with contextlib.suppress(ray_error()):
            ray.kill(self.actor)


def bring_home(files: Files, folder: Path) -> None:
    """Write a trial's files into its folder, each whole or not at all. Raises OSError.

    An older checkpoint there, of a search without a cluster, is of no use any more.
    """
    (folder / CHECKPOINT).unlink(missing_ok=True)
    for name, content in files.items():
        with writing(folder / name, "wb") as file:
            file.write(content.data)


NODE_DIED = "its node has died"
"""How Ray says so"""


def death(why: BaseException, post: Post) -> ChildDied:
    """A host's end as that of its children."""
    from ray.exceptions import ActorUnavailableError, OutOfMemoryError

    name = f"node {post.hello.name}" if post.hello else "a node"
    lines = [line.strip() for line in str(why).splitlines() if line.strip()] or [type(why).__name__]
    if NODE_DIED in str(why):
        return ChildDied(f"{name} of the cluster died", node=True)
    if isinstance(why, ActorUnavailableError):  # what it has said meanwhile may be lost
        return ChildDied(f"{name} of the cluster is out of reach", node=True)
    if isinstance(why, OutOfMemoryError):
        return ChildDied(f"killed by Ray: {name} of the cluster ran out of memory", out_of_memory=True)
    told = lines[-1]  # of an error on the node, which brings its traceback along
    if isinstance(why, ray_error()) and "creation task" not in str(why):
        told = next((line for line in lines if line.startswith("The actor ") and "because" in line), told)
    return ChildDied(f"{name} of the cluster: {told[:300]}")


def ray_error() -> type[Exception]:
    """The class of all that Ray raises of its own."""
    from ray.exceptions import RayError

    return RayError  # type: ignore[no-any-return]
