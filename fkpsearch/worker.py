"""One trial in a process of its own: ``python -m fkpsearch.worker --data DIR``.

Speaks JSON lines: jobs and answers on standard input, reports on the standard output it was
started with (anything a library prints goes to standard error instead). It imports Keras and reads
the data before its job arrives, which is what makes a spare child warm. Every report of an epoch
waits for its answer, so what is pruned does not depend on the speed of the database.

    child                                 supervisor
    {"is": "ready", "fingerprint": ...}
                                          {"do": "train", "folder": ..., "settings": {...}, "ask": true}
    {"is": "suggest", "name": ..., ...}
                                          {"do": "use", "value": ...}
    {"is": "epoch", "epoch": 1, ...}
                                          {"do": "go"} or {"do": "stop"}
    {"is": "done", "rmse": ...}
                                          {"do": "keep"} or {"do": "drop"}
    {"is": "saved"}

A child that may ask does so for whatever its settings leave to a hypermodel to ask for (asking.py).
The end may also be ``stopped``; ``diverged``, ``infeasible`` or ``failed`` with the reason in ``why``; or ``refused``
with ``lines`` that say what the user has to mend before anything can train.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fkpsearch.errors import InputError, ModelError


class _Line:
    """Both directions of the conversation. The supervisor's death ends this process at once."""

    def __init__(self) -> None:
        # the pipe moves aside, so that no library's print can ever break the conversation
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.of_a_search = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._heard.put(json.loads(line))
        os._exit(1)

    def say(self, kind: str, **content: object) -> None:
        self._out.write(json.dumps({"is": kind, **content}) + "\n")
        self._out.flush()

    def ask(self, question: dict[str, Any]) -> Any:
        self.say("suggest", **question)
        return self.hear()["value"]

    def hear(self) -> dict[str, Any]:
        return self._heard.get()


def main(arguments: Sequence[str] | None = None) -> None:
    """Warm up, take one job, do it, leave."""
    parser = argparse.ArgumentParser(prog="python -m fkpsearch.worker")
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args(arguments).data
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    line = _Line()
    try:
        _serve(line, data)
    except InputError as why:
        if isinstance(why, ModelError) and line.of_a_search:  # other values may do
            line.say("failed", why=str(why))
        else:  # such as weights that are not there: more trials would not mend it
            line.say("refused", lines=[str(problem) for problem in why.problems])
    except Exception as why:
        traceback.print_exc()
        line.say("failed", why=f"{type(why).__name__}: {why}")
    line._out.close()
    sys.stderr.flush()
    # Tearing TensorFlow down takes a second and has nothing left to save.
    os._exit(0)


def _serve(line: _Line, data: Path) -> None:
    from fkpsearch.asking import decide
    from fkpsearch.data import load_data
    from fkpsearch.device import take_place
    from fkpsearch.errors import Diverged, Infeasible, Stopped
    from fkpsearch.prepare import prepared
    from fkpsearch.run_folder import History, write_validation
    from fkpsearch.settings import settings_of, write_settings
    from fkpsearch.train import Epoch, train, warm_up

    take_place()
    loaded = load_data(data)
    warm_up()
    forget_greetings()
    line.say("ready", fingerprint=loaded.faces.fingerprint)
    job = line.hear()
    folder = Path(job["folder"])
    settings = settings_of(job["settings"], str(folder / "settings.yaml"))
    line.of_a_search = bool(job.get("ask"))
    if line.of_a_search:
        settings = decide(settings, line.ask)
        write_settings(settings, folder / "settings.yaml")
    faces = prepared(loaded.faces, settings.prepare)

    with History(folder) as history:

        def on_epoch(row: Epoch) -> None:
            history.append(row)
            line.say("epoch", **asdict(row))
            if line.hear()["do"] != "go":
                raise Stopped

        try:
            outcome = train(settings, faces, on_epoch)
        except Stopped:
            return line.say("stopped")
        except Diverged as why:
            return line.say("diverged", why=str(why))
        except Infeasible as why:
            return line.say("infeasible", why=str(why))
    write_validation(folder, outcome, loaded)
    line.say("done", rmse=outcome.rmse, best_epoch=outcome.best_epoch, seconds=outcome.seconds)
    if line.hear()["do"] == "keep":
        save_model(outcome.model, folder / "model.keras")
    line.say("saved")


def forget_greetings() -> None:
    """Empty standard error where it is a file: TensorFlow's greetings are no reason for anything that comes later."""
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


def save_model(model: Any, path: Path) -> None:
    """Write a model whole or not at all."""
    beside = path.with_name(f".{path.name.removesuffix('.keras')}.{os.getpid()}.keras")
    try:
        model.save(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
