"""A trainer in place of Keras, for tests of the engine: the same conversation as fkpsearch.worker, in bare Python.

Its learning curve is a function of the settings, its process and its files are real, it keeps a checkpoint an epoch.
``TINY_FINGERPRINT`` is what it says of the data, ``TINY_EPOCH`` how many seconds an epoch takes, ``TINY_MODEL_BYTES``
how large a model is. In the file ``TINY_LOG`` it notes every epoch it has trained and kept.
"""

import contextlib
import errno
import json
import os
import sys
import time
import zlib
from pathlib import Path

CHECKPOINT = "checkpoint.npz"


def say(kind, **content):
    sys.stdout.write(json.dumps({"is": kind, **content}) + "\n")
    sys.stdout.flush()


def hear():
    line = sys.stdin.readline()
    if not line:
        os._exit(1)
    return json.loads(line)


def rmse_at(settings, epoch):
    """RMSE in pixels: falls with the epochs to a floor that the settings' text alone decides."""
    luck = zlib.crc32(json.dumps(settings, sort_keys=True).encode()) / 2**32
    return 1.5 + 2 * luck + 3 / epoch + (zlib.crc32(f"{luck}{epoch}".encode()) % 100) / 1000


def worth(rmses, epochs):
    """The mean of each fold's best so far; of one split simply the best."""
    best = [min(rmses[first : first + epochs]) for first in range(0, len(rmses), epochs)]
    return sum(best) / len(best)


def write(path, text):
    """Whole or not at all; ``fkpsearch.run_folder.forget`` knows what a killed process leaves."""
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        beside.write_text(text)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def note(folder, epoch):
    if "TINY_LOG" in os.environ:
        with Path(os.environ["TINY_LOG"]).open("a") as log:
            log.write(f"{folder.name} {epoch} {os.getpid()}\n")


def earlier(folder, settings):
    """The epochs an earlier process has trained, none where its checkpoint is another's."""
    try:
        kept = json.loads((folder / CHECKPOINT).read_text())
    except (OSError, ValueError):
        return []
    return kept["rmses"] if kept["settings"] == settings else []


def train(job):
    folder, settings = Path(job["folder"]), job["settings"]
    rmses = [] if job.get("fresh") else earlier(folder, settings)
    epochs, folds = settings["training"]["epochs"], settings["validation"]["folds"]
    for epoch in range(max(1, len(rmses)), epochs * folds + 1):
        again = epoch == len(rmses)
        if not again:
            time.sleep(float(os.environ.get("TINY_EPOCH", "0")))
            rmses.append(rmse_at(settings, (epoch - 1) % epochs + 1))
            write(folder / CHECKPOINT, json.dumps({"settings": settings, "rmses": rmses}))
            note(folder, epoch)
        write(folder / "history.csv", "\n".join(["epoch,rmse", *(f"{n},{r}" for n, r in enumerate(rmses, start=1))]))
        best = worth(rmses, epochs)
        at = {"fold": (epoch - 1) // epochs + 1} if folds > 1 else {}
        say("epoch", epoch=epoch, rmse=rmses[-1], best=best, images_per_second=1000.0, again=again, **at)
        if hear()["do"] != "go":
            (folder / CHECKPOINT).unlink(missing_ok=True)
            return say("stopped")
    write(folder / "validation.npz", f"{best}")
    say("done", rmse=best, best_epoch=rmses.index(min(rmses)) + 1, seconds=0.1)
    if hear()["do"] == "keep":
        size = int(os.environ.get("TINY_MODEL_BYTES", "0"))
        write(folder / "model.keras", f"the model of {folder.name}: {best}".ljust(size))
    if job.get("fresh"):
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return say("saved")


def main():
    say("ready", fingerprint=os.environ["TINY_FINGERPRINT"])
    try:
        train(hear())
    except OSError as why:
        if why.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say("full", why=str(why))


if __name__ == "__main__":
    main()
