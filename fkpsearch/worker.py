"""One trial in a process of its own: ``python -m fkpsearch.worker --data DIR``.

Speaks JSON lines: jobs and answers on standard input, reports on the standard output it was
started with (anything a library prints goes to standard error instead). It imports Keras and reads
the data before its job arrives, which is what makes a spare child warm. Every report of an epoch
waits for its answer, so what is pruned does not depend on the speed of the database.

    child                                 supervisor
    {"is": "ready", "fingerprint": ...}
                                          {"do": "train", "folder": ..., "settings": {...}, "ask": true,
                                           "fresh": false, "twins": true, "limits": {...}, "data": ...}
    {"is": "suggest", "name": ..., ...}
                                          {"do": "use", "value": ...}
    {"is": "decided", "settings": {...}}
                                          {"do": "go"} or {"do": "stop"}
    {"is": "epoch", "epoch": 1, ...}
                                          {"do": "go"} or {"do": "stop"}
    {"is": "done", "rmse": ...}
                                          {"do": "keep"} or {"do": "drop"}
    {"is": "saved"}

Of a job only ``folder`` and ``settings`` must be there. A child that may ``ask`` does so for whatever its settings
leave to a hypermodel to ask for (asking.py); with ``twins`` it then says what was decided, as the same settings may
have been trained. It goes on from a checkpoint in its folder that fits (checkpoint.py): its first message then is
the last finished epoch with ``"again": true``. Where its settings have several folds an epoch says which is at work
(crossval.py). With ``fresh`` such a checkpoint is removed unread. ``limits`` are
`limits.Limits`, held against the built model before it is trained. ``data`` is where the data lies for those who read
the results, where that is not here.

Whatever happens instead ends the conversation, too. After a good end the checkpoint stays until the supervisor has told
the trial, or is gone where the job was ``fresh``:

    stopped                    as it was told to
    diverged    why
    infeasible  why, constraint: settings (this data has no rows for them), limits, or memory (it ran out)

After these it stays for whoever goes on:

    full        why            the disk; nothing half-written is left
    failed      why
    refused     lines          what the user has to mend before anything can train
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
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkpsearch.errors import (
    Diverged,
    Infeasible,
    InputError,
    ModelError,
    Problem,
    SpaceError,
    Stopped,
    disk_full,
    out_of_memory,
)
from fkpsearch.run_folder import CHECKPOINT, MODEL, OLDER

if TYPE_CHECKING:
    from fkpsearch.data import Faces
    from fkpsearch.settings import Settings


class _Line:
    """Both directions of the conversation. The supervisor's death ends this process at once."""

    def __init__(self) -> None:
        # the pipe moves aside, so that no library's print can ever break the conversation
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.job: dict[str, Any] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for line in sys.stdin:
                self._heard.put(json.loads(line))
        finally:
            os._exit(1)  # also where the supervisor has died in the middle of a line

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
    leave_signals_to_the_supervisor()
    line = _Line()
    try:
        _serve(line, data)
        end: dict[str, Any] = {"kind": "saved"}
    except Exception as why:
        end = last_words(why, of_a_search=bool(line.job.get("ask")))
    if line.job.get("fresh") and end["kind"] in GOOD_ENDS:
        (Path(line.job["folder"]) / CHECKPOINT).unlink(missing_ok=True)
    line.say(**end)
    line._out.close()
    sys.stderr.flush()
    # Tearing TensorFlow down takes a second and has nothing left to save.
    os._exit(0)


GOOD_ENDS = ("saved", "stopped", "diverged", "infeasible")
"""After which nobody goes on from the checkpoint"""


def leave_signals_to_the_supervisor() -> None:
    """Ctrl-C and what ends everybody, as of a machine that shuts down, are for it to answer: its end is this one's.

    Not by SIG_IGN, which what this process starts would inherit: a hypermodel's own processes have to end when told.
    """
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    for name in names:
        signal.signal(getattr(signal, name), lambda *_: None)
    os.register_at_fork(after_in_child=lambda: [signal.signal(getattr(signal, one), signal.SIG_DFL) for one in names])


def last_words(why: Exception, *, of_a_search: bool) -> dict[str, Any]:
    """What a child whose work ended in an error says of it; a traceback goes where the error is our own."""
    if full := disk_full(why):
        return {"kind": "full", "why": full}
    if words := out_of_memory(why):
        return {"kind": "infeasible", "why": words, "constraint": "memory"}
    match why:
        case Stopped():
            return {"kind": "stopped"}
        case Diverged():
            return {"kind": "diverged", "why": str(why)}
        case Infeasible(constraint=constraint):
            return {"kind": "infeasible", "why": str(why), "constraint": constraint}
        case ModelError() if of_a_search:  # other values may do
            return {"kind": "failed", "why": str(why)}
        case InputError(problems=problems):  # such as weights that are not there: more trials would not mend it
            return {"kind": "refused", "lines": [str(problem) for problem in problems]}
    with contextlib.suppress(OSError):
        traceback.print_exception(why)
    return {"kind": "failed", "why": f"{type(why).__name__}: {why}"}


def _serve(line: _Line, data: Path) -> None:
    from fkpsearch.device import start_keras, take_place

    start_keras()
    from fkpsearch.checkpoint import Checkpoint, identity_of
    from fkpsearch.compiled import keep_compiled
    from fkpsearch.crossval import history_of, train_folds
    from fkpsearch.data import load_data
    from fkpsearch.plain import onto_disk
    from fkpsearch.prepare import prepared
    from fkpsearch.run_folder import write_history, write_validation
    from fkpsearch.state import Epoch
    from fkpsearch.train import warm_up

    take_place()
    keep_compiled()
    loaded = load_data(data)
    warm_up()
    refuse_a_gpu_unseen()
    forget_greetings()
    line.say("ready", fingerprint=loaded.faces.fingerprint)
    job = line.job = line.hear()
    folder = Path(job["folder"])
    settings = settle(line, folder)
    faces = prepared(loaded.faces, settings.prepare)
    checkpoint = Checkpoint(folder, identity_of(settings, loaded.faces.fingerprint))
    if job.get("fresh"):
        checkpoint.remove()
    if not checkpoint.path.exists():  # else it was found to be light enough before
        keep_to(job.get("limits") or {}, settings, faces)
    history: list[Epoch] = []
    state = checkpoint.read()
    earlier = history_of(settings, faces, state.histories) if state else ()

    def on_epoch(row: Epoch) -> None:
        again = not history and row in earlier
        history.extend(earlier if again else [row])
        write_history(folder, history)
        line.say("epoch", **asdict(row), **({"again": True} if again else {}))
        if line.hear()["do"] != "go":
            raise Stopped

    outcome = train_folds(settings, faces, on_epoch, resume=state, on_state=checkpoint.write)
    write_validation(folder, outcome, replace(loaded, folder=Path(job.get("data") or data)))
    line.say("done", rmse=outcome.rmse, best_epoch=outcome.best_epoch, seconds=outcome.seconds)
    if line.hear()["do"] == "keep":
        save_model(outcome.model, folder / MODEL)
    onto_disk(folder, ["settings.yaml", "history.csv", *OLDER])  # as the end will be that is told of it


def refuse_a_gpu_unseen() -> None:
    """Raises InputError where this process was given a GPU and Keras computes on the CPU, a hundredth as fast."""
    import keras

    from fkpsearch.places import ON_GPU
    from fkpsearch.recipe import gpu_is_there

    if os.environ.get(ON_GPU) and not gpu_is_there():
        rule = "has been given a GPU that Keras' backend does not see"
        advice = (
            "install the backend's build for GPUs ('.[gpu]', '.[jax-cuda]'), or set CUDA_VISIBLE_DEVICES= to do without"
        )
        raise InputError(Problem("training", rule, keras.backend.backend(), advice))


def settle(line: _Line, folder: Path) -> Settings:
    """The job's settings, decided in whatever they leave open. Raises Stopped where a twin of them has been trained."""
    from fkpsearch.asking import decide
    from fkpsearch.settings import settings_of, write_settings

    settings = settings_of(line.job["settings"], str(folder / "settings.yaml"))
    if line.job.get("ask"):
        settings = decide(settings, line.ask)
        write_settings(settings, folder / "settings.yaml")
        if line.job.get("twins"):
            line.say("decided", settings=settings.model_dump(mode="json"))
            if line.hear()["do"] != "go":
                raise Stopped
    return settings


def keep_to(limits: dict[str, Any], settings: Settings, faces: Faces) -> None:
    """Build the model and weigh it, where ``limits`` say how heavy it may be. Raises Infeasible where it is heavier."""
    from fkpsearch.cost import cost_of, resident_bytes, training_bytes
    from fkpsearch.limits import Limits
    from fkpsearch.part import part_of
    from fkpsearch.recipe import gpu_is_there

    allowed = part_of(Limits, limits, "study.limits", SpaceError)
    if not allowed.of_models:
        return
    held = resident_bytes()
    cost = cost_of(settings.model)
    memory = held + training_bytes(cost, settings, len(faces), on_gpu=gpu_is_there())
    over = allowed.exceeded(parameters=cost.parameters, multiply_adds=cost.multiply_adds, memory=memory)
    if over:
        raise Infeasible(over, "limits")


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
