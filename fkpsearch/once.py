"""One run without a search: a settings file trained in a child process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fkpsearch.child import Child, Message, refusal
from fkpsearch.data import Data
from fkpsearch.detect import check_installed
from fkpsearch.errors import InputError, Problem, SettingsError, TrialError
from fkpsearch.run_folder import CHECKPOINT, OLDER, forget
from fkpsearch.settings import Settings, read_settings, write_settings
from fkpsearch.space import Space, load_space


def read_decided(path: Path) -> Settings:
    """The settings in a YAML file. Raises SpaceError or SettingsError, naming the ranges where it is a space."""
    try:
        return read_settings(path)  # first, as the values of a hypermodel may have names that no space has
    except SettingsError:
        refuse_ranges(load_space(path))
        raise


def refuse_ranges(space: Space) -> None:
    """Raises SettingsError, naming them, where a file has ranges left in it."""
    if ranges := space.ranges():
        advice = "write one value, or search it with `fkpsearch run`"
        raise SettingsError(*(Problem(f"{space.place}: {name}", "is a range", advice=advice) for name in ranges))


def train_once(
    settings: Settings, data: Data, folder: Path, on_epoch: Callable[[Message], None] = lambda _: None
) -> None:
    """Train and leave settings, history, validation answers and model in ``folder`` (it exists).

    The same process a study's trial gets, so the same settings give the same value. Raises TrialError when
    the training diverged or failed, ChildDied when its process died, InputError when the user has to mend something.
    """
    if settings.prepare.face_box == "mtcnn":
        check_installed()
    child = Child(data.folder)
    try:
        child.send("train", folder=str(folder.resolve()), settings=settings.model_dump(mode="json"), fresh=True)
        while True:
            message = child.receive(timeout=1.0)
            match message and message["is"]:
                case "epoch":
                    assert message
                    if message["epoch"] == 1:  # not before: settings that do not train cost nobody an older model
                        forget(folder, OLDER)
                        write_settings(settings, folder / "settings.yaml")
                    on_epoch(message)
                    child.send("go")
                case "done":
                    child.send("keep")
                case "saved":
                    return
                case "infeasible":
                    assert message
                    raise SettingsError(Problem(*message["why"].split(": ", 1)))
                case "full":
                    raise InputError(Problem(str(folder), "is on a disk that is full", advice="make room"))
                case "refused":
                    assert message
                    raise refusal(message)
                case "failed" | "diverged":
                    assert message
                    raise TrialError(message["why"])
    finally:
        child.kill()
        (folder / CHECKPOINT).unlink(missing_ok=True)  # there is no going on without a search
