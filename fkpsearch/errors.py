"""What can go wrong, as a tree.

    FkpError
    ├── InputError            what the user can mend: printed one line a problem, exit status 2
    │   ├── DataError             the Kaggle files
    │   ├── SpaceError            a space file
    │   ├── SettingsError         a settings file, or settings sampled from a space
    │   ├── ModelError            a model of the user's own
    │   ├── StudyError            a study folder
    │   │   ├── DiskFull              there is no room to write
    │   │   └── StorageAway           the database is gone and did not come back in time
    │   └── ExportError           a finished run that cannot be shipped
    ├── TrialError            one trial ended early; the study goes on
    │   ├── Diverged              the loss or the predictions are no longer finite
    │   ├── Infeasible            settings that this data, this memory or the search's limits do not allow
    │   └── Stopped               the supervisor asked for the end (pruned, interrupted)
    ├── ChildDied             the process of a trial ended in the middle of its work (child.py)
    ├── Gone                  the database cannot be reached now (database.py); it is asked again
    ├── Lost                  another supervisor has the trial meanwhile (job.py)
    └── Interrupted           Ctrl-C ended a search (interrupt.py)

Anything else that escapes is our own bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal


class _Nothing:
    """The mark for "no value to show"."""


NOTHING = _Nothing()


@dataclass(frozen=True)
class Problem:
    """One thing the user can mend, printed as ``place: rule (got value); what to do``.

    ``place`` names the file and, inside it, the path in the tree or the row.
    """

    place: str
    rule: str
    got: object = NOTHING
    advice: str = ""

    def __str__(self) -> str:
        got = "" if self.got is NOTHING else f" (got {short(self.got)})"
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.place}: {self.rule}{got}{advice}"


class FkpError(Exception):
    """Every error this package raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it below a notebook's cell: what the command line prints, and no traceback."""
        return [f"error: {line}" for line in str(self).splitlines()]


class InputError(FkpError):
    """Something the user can mend; carries one ``Problem`` per line of output."""

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("an InputError needs at least one problem")
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class DataError(InputError):
    """The Kaggle files are missing, damaged or inconsistent."""


class SpaceError(InputError):
    """A space file breaks the grammar."""


class SettingsError(InputError):
    """Settings that cannot be trained."""


class ModelError(InputError):
    """A model of the user's own cannot be imported, built or used."""


class StudyError(InputError):
    """A study folder cannot be made, read or continued."""


class DiskFull(StudyError):
    """There is no room left to write to; what was being written is not there, all the rest is."""

    def __init__(self, place: str, reason: str) -> None:
        advice = "make room, then run the same command again: nothing is lost"
        super().__init__(Problem(place, f"the disk is full ({reason})", advice=advice))


class StorageAway(StudyError):
    """The database was gone and did not come back in time, or the wait for it was broken off."""


class ExportError(InputError):
    """A finished run cannot be shipped."""


class TrialError(FkpError):
    """One trial ended early; the study goes on."""


class Diverged(TrialError):
    """The loss or the predictions stopped being finite numbers."""


class Infeasible(TrialError):
    """What a search avoids and a person changes; ``constraint`` is the one that is broken.

    ``settings`` ask for rows that this data does not have, ``limits`` of the search are exceeded, ``memory`` ran out.
    """

    def __init__(self, why: str, constraint: Literal["settings", "limits", "memory"] = "settings") -> None:
        super().__init__(why)
        self.constraint = constraint


class Stopped(TrialError):
    """The supervisor asked the trial to end."""


OUT_OF_MEMORY = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}
"""Python's, TensorFlow's and PyTorch's, by name as nobody here may import them all"""

OUT_OF_MEMORY_SAID = (
    "RESOURCE_EXHAUSTED",
    "DefaultCPUAllocator: can't allocate memory",
    "std::bad_alloc",
    "MemoryError:",
)
"""How JAX, PyTorch on a CPU, C++, and TensorFlow of Python's put it in errors of more general types"""


def out_of_memory(why: BaseException) -> str:
    """What an error, or one that it came from, says of memory that ran out, the host's or a GPU's; else nothing."""
    for one in chain_of(why):
        said = any(words in str(one) for words in OUT_OF_MEMORY_SAID)
        if said or OUT_OF_MEMORY & {kind.__name__ for kind in type(one).__mro__}:
            lines = [line for line in str(one).splitlines() if "alloca" in line] or [type(one).__name__]
            words = lines[0].split("}} ")[-1].split(" on /job:")[0]  # TensorFlow's names of node and device
            return f"out of memory: {short(words.strip(), 300)}"
    return ""


def disk_full(why: BaseException) -> str:
    """What an error, or one that it came from, says of a full disk or a used-up quota; else nothing."""
    texts = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
    # by its text: HDF5's errors have no number, TensorFlow's are not the system's
    return next((text for one in chain_of(why) for text in texts if text in str(one)), "")


def chain_of(why: BaseException) -> Iterator[BaseException]:
    """An error and all that it came from: SQLAlchemy's ``orig``, what it was raised from or while handling."""
    seen: list[int] = []
    one: BaseException | None = why
    while one is not None and id(one) not in seen:
        seen.append(id(one))
        yield one
        one = getattr(one, "orig", None) or one.__cause__ or one.__context__


def short(value: object, limit: int = 60) -> str:
    """``repr`` of a value, cut to ``limit`` characters so that an error stays one line."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Advice for a misspelt name: the nearest known one, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if names else ""


def first_rows(rows: Sequence[int], limit: int = 5) -> str:
    """``row 3`` or ``rows 3, 4, 9, 12, 40 and 7 more`` for 1-based row numbers."""
    shown = ", ".join(str(row) for row in rows[:limit])
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


class FkpWarning(UserWarning):
    """What the user should know but does not stop the work."""
