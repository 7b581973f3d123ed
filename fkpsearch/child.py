"""A worker process seen from the supervisor: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from fkpsearch.errors import FkpError, InputError, Problem

Message = dict[str, Any]

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # a spare child warms up on the GPU its predecessor trains on: neither may reserve all of its memory
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""Of processes that run Keras, where the user's own does not say otherwise"""


class ChildDied(FkpError):
    """The process ended in the middle of its work; the text says how."""


def refusal(message: Message) -> InputError:
    """What a child that ``refused`` to train says has to be mended."""
    return InputError(*(Problem(*line.split(": ", 1)) for line in message["lines"]))


class Child:
    """One running ``fkpsearch.worker``, started warm, good for one trial."""

    def __init__(self, data: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fkpsearch.worker", "--data", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**ENVIRONMENT, **os.environ},
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )
        self._heard: queue.Queue[Message | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict) or "is" not in message:
                message = {"is": "failed", "why": f"the child sent garbage: {line[:80]!r}"}
            self._heard.put(message)
        self._heard.put(None)

    def send(self, do: str, **content: object) -> None:
        """Tell the child something; a dead child is noticed by :meth:`receive`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, OSError):
            self._process.stdin.write((json.dumps({"do": do, **content}) + "\n").encode())
            self._process.stdin.flush()

    def receive(self, timeout: float) -> Message | None:
        """The child's next message, None when there is none in ``timeout`` seconds. Raises ChildDied."""
        try:
            message = self._heard.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            self._heard.put(None)  # it stays dead for the next caller
            raise ChildDied(self._how_it_died())
        return message

    def _how_it_died(self) -> str:
        code = self._process.wait()
        how = f"exit status {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        last = self._last_words()
        return f"the training process died ({how}){': ' + last if last else ''}"

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:500] if lines else ""

    def release(self) -> None:
        """Let a child that has done its work leave by itself; nobody waits for it."""
        threading.Thread(target=self._reap, args=(10.0,), daemon=True).start()

    def kill(self) -> None:
        """End the process now and wait until it is gone."""
        self._reap(0)

    def _reap(self, patience: float) -> None:
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._listener.join(1)  # it reads until the pipe's end, which has come
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()
