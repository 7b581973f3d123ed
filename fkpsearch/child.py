"""A process that trains one trial, seen from the supervisor: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from fkpsearch.device import ENVIRONMENT
from fkpsearch.errors import FkpError, InputError, Problem
from fkpsearch.messages import Message, Refused, parse

SECRETS = ("FKPSEARCH_STORAGE", "PGPASSWORD", "MYSQL_PWD")
"""Variables that no child is given: it opens no storage"""

WORKER = (sys.executable, "-m", "fkpsearch.worker")
"""The command that trains; ``--data DIR`` follows"""

LONGEST = 2**20
"""Bytes of a line; what is longer is garbage, in pieces"""

GRACE = 2.0
"""Seconds between the end of a child's output and its own"""

UNKILLABLE = 2.0
"""Seconds after which a child that even SIGKILL does not end is left to itself"""

NO_MEMORY = "killed by the kernel: the machine ran out of memory"


class ChildDied(FkpError):
    """The process ended in the middle of its work; the text says how."""

    def __init__(self, how: str, *, out_of_memory: bool = False, node: bool = False) -> None:
        super().__init__(how)
        self.out_of_memory = out_of_memory
        """The kernel's OOM killer ended it"""
        self.node = node
        """Its whole machine is gone, which is not its trial's fault"""


def refusal(message: Refused) -> InputError:
    """What a child that refused to train says has to be mended."""
    lines = (line if ": " in line else f"training: {line}" for line in message.lines)
    return InputError(*(Problem(*line.split(": ", 1)) for line in lines))


class Child(Protocol):
    """One process that is started warm and good for one trial, wherever it runs."""

    @property
    def pid(self) -> int:
        """The process id, on its own machine."""
        ...

    @property
    def placed(self) -> bool:
        """Whether there is a machine for it; a cluster may have no room now."""
        ...

    def send(self, do: str, **content: object) -> None:
        """Tell it something; a dead child is noticed by :meth:`receive`."""
        ...

    def receive(self, timeout: float) -> Message | None:
        """Its next message, None when there is none in ``timeout`` seconds. Raises ChildDied."""
        ...

    def memory(self) -> int:
        """Bytes resident now; 0 where nobody knows."""
        ...

    def release(self) -> None:
        """Let a child that has done its work leave by itself; nobody waits for it."""
        ...

    def kill(self) -> None:
        """End it now and wait until it is gone."""
        ...


class Process:
    """A child on this machine."""

    def __init__(
        self,
        data: Path,
        environment: Mapping[str, str] | None = None,
        wake: Callable[[], None] = lambda: None,
        command: Sequence[str] = WORKER,
    ) -> None:
        """``wake`` is called from another thread whenever there is something to receive."""
        self._wake = wake
        self._killed_before = oom_kills()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        self._process = subprocess.Popen(
            [*command, "--data", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment_of_children(environment or {}),
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )
        self._closing = threading.Lock()
        """Held by who reads its last words, or closes its files"""
        self._heard: queue.Queue[Message | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        try:
            self._listener.start()
        except RuntimeError as why:  # a limit of threads and processes
            self._process.kill()
            self._process.wait()
            raise BlockingIOError(errno.EAGAIN, str(why)) from None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def placed(self) -> bool:
        return True

    def _listen(self) -> None:
        out = self._process.stdout
        assert out is not None
        with contextlib.suppress(OSError, ValueError):  # the pipe may be closed under it when the child is killed
            # a line is never longer than this, so that a broken child cannot fill this process's memory
            for line in iter(lambda: out.readline(LONGEST), b""):
                self._heard.put(parse(line))
                self._wake()
        self._heard.put(None)
        self._wake()

    def send(self, do: str, **content: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, OSError):
            self._process.stdin.write((json.dumps({"do": do, **content}) + "\n").encode())
            self._process.stdin.flush()

    def receive(self, timeout: float) -> Message | None:
        try:
            message = self._heard.get(timeout=timeout) if timeout else self._heard.get_nowait()
        except queue.Empty:
            return None
        if message is None:
            self._heard.put(None)  # it stays dead for the next caller
            raise self._death()
        return message

    def memory(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _death(self) -> ChildDied:
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return ChildDied("the training process closed its output and went on")
        if code == -signal.SIGKILL and oom_kills() > self._killed_before:
            return ChildDied(NO_MEMORY, out_of_memory=True)
        how = f"exit status {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        last = self._last_words()
        return ChildDied(f"the training process died ({how}){': ' + last if last else ''}")

    def _last_words(self) -> str:
        with self._closing:
            if self._errors.closed:
                return ""
            self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, self._errors.tell() - 4000))
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:500] if lines else ""

    def release(self) -> None:
        threading.Thread(target=self._reap, args=(10.0,), daemon=True).start()

    def kill(self) -> None:
        self._kill_group()
        self._reap(0)

    def _kill_group(self) -> None:
        """It, and what it has started itself: the group has its number as long as there is one of them."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self, patience: float) -> None:
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._kill_group()
            try:
                self._process.wait(UNKILLABLE)
            except subprocess.TimeoutExpired:  # in the hands of a file system or a driver that hangs
                threading.Thread(target=self._process.wait, daemon=True).start()
        self._listener.join(1)  # it reads until the pipe's end, which has come
        if self._listener.is_alive():  # somebody holds the other end: whoever closed this one would wait for him
            return
        with self._closing:
            for pipe in (self._process.stdin, self._process.stdout, self._errors):
                if pipe is not None:
                    with contextlib.suppress(OSError, ValueError):
                        pipe.close()


def environment_of_children(more: Mapping[str, str]) -> dict[str, str]:
    """This process' environment as its children get it, without what is secret."""
    own = {name: value for name, value in os.environ.items() if name not in SECRETS}
    made = {**ENVIRONMENT, **own, **more}
    if made.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        made.setdefault("JAX_PLATFORMS", "cpu")  # it does not take it for granted that there is none to be seen
    return made


def run_module(
    name: str, *arguments: object, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A module of ours as a program, to its end, in a clean process; ``more`` is of its environment."""
    command = [sys.executable, "-m", name, *map(str, arguments)]
    environment = environment_of_children(more or {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    """Of what a process said."""
    return (text.strip().splitlines() or ["no word"])[-1]


def oom_kills() -> int:
    """How many processes the kernel has ended for want of memory, as far as this machine or container tells."""
    found = 0
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                name, _, count = line.partition(" ")
                found += int(count) if name == "oom_kill" else 0
    return found
