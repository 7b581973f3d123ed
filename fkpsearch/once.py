"""One run without a search: a settings file trained in a child process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fkpsearch import messages as said
from fkpsearch.child import Process, refusal
from fkpsearch.data import Data
from fkpsearch.detect import check_installed
from fkpsearch.errors import Diverged, InputError, Problem, SettingsError, TrialError
from fkpsearch.places import places
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
    settings: Settings,
    data: Data,
    folder: Path,
    on_epoch: Callable[[said.Epoch], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Train and leave settings, history, validation answers and model in ``folder`` (it exists).

    The same process a study's trial gets, so the same settings give the same value; ``environment`` is that of its
    place, by default of a search's only worker. What ``on_epoch`` raises ends the training. Raises Diverged,
    TrialError when the training failed, ChildDied when its process died, InputError when the user has to mend
    something.
    """
    if settings.prepare.face_box == "mtcnn":
        check_installed()
    child = Process(data.folder, environment or places(1, trials=1)[0].environment)
    try:
        child.send("train", folder=str(folder.resolve()), settings=settings.model_dump(mode="json"), fresh=True)
        while not isinstance(message := child.receive(timeout=1.0), said.Saved):
            match message:
                case said.Epoch():
                    if message.epoch == 1:  # not before: settings that do not train cost nobody an older model
                        forget(folder, OLDER)
                        write_settings(settings, folder / "settings.yaml")
                    on_epoch(message)
                    child.send("go")
                case said.Done():
                    child.send("keep")
                case said.Infeasible(why=why):
                    raise SettingsError(Problem(*why.split(": ", 1)))
                case said.Refused():
                    raise refusal(message)
                case said.Full(why=why):
                    raise InputError(Problem(str(folder), f"is on a disk that is full ({why})", advice="make room"))
                case said.Diverged(why=why):
                    raise Diverged(why)
                case said.Failed(why=why):
                    raise TrialError(why)
    finally:
        child.kill()
        (folder / CHECKPOINT).unlink(missing_ok=True)  # there is no going on without a search
