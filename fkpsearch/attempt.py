"""One trial in the hands of one child: what each message means at each moment, and which end it comes to.

Whatever does not belong where it comes (an epoch twice, an end before the beginning, no sense at all) means that the
child is broken. A broken child is treated as a dead one: its trial goes on in another.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fkpsearch import messages as said
from fkpsearch.asking import answer
from fkpsearch.books import Books
from fkpsearch.child import Child, ChildDied, refusal
from fkpsearch.errors import DiskFull
from fkpsearch.events import EpochDone
from fkpsearch.job import End

if TYPE_CHECKING:
    from optuna.trial import Trial


class Attempt:
    """The conversation from the job on."""

    def __init__(
        self, trial: Trial, epochs: int, child: Child, books: Books, *, asks: bool = False, folds: int = 1
    ) -> None:
        """``epochs`` is how long the training may last, ``asks`` says that a hypermodel will ask first."""
        self.trial, self.epochs, self.child, self._books = trial, epochs, child, books
        self._folds, self._fold = folds, 0
        self.epoch = 0
        """The last one reported"""
        self.best = math.inf
        self._asking = asks
        self.done: said.Done | None = None
        """What the training came to, while its files are being written"""

    def hear(self, message: said.Message) -> End | None:
        """Take in one message and answer it: the trial's end, or None. Raises ChildDied of a broken child.

        Raises InputError where the user has to mend something before anything can train.
        """
        match message:
            case said.Saved() if self.done:
                notes = {"best_epoch": self.done.best_epoch, "training_seconds": self.done.seconds}
                return End("COMPLETE", self.done.rmse, notes=notes)
            case said.Failed(why=why):
                return End("FAIL", reason=why)
            case said.Full(why=why):
                raise DiskFull(self._books.place(self.trial), why)
            case _ if self.done:
                raise self.broken(message)
            case said.Suggest() if self._asking:
                return self._answer(message)
            case said.Decided() if self._asking:
                return self._decided()
            case said.Epoch():
                return self._epoch(message)
            case said.Done() if (
                self.epoch and message.rmse == self.best and message.best_epoch <= self.epoch and self._at_the_last_fold
            ):
                self._keep(message)
                return None
            case said.Diverged(why=why) if self.epoch < self.epochs:
                self._books.report(self.trial, self.epoch + 1, math.nan)
                return End("PRUNED", reason=f"diverged in {why}")
            case said.Infeasible(why=why, constraint=constraint):
                return End("PRUNED", reason=why, constraint=constraint)
            case said.Refused() if self._books.refused_alone():
                return End("FAIL", reason="; ".join(message.lines))
            case said.Refused():
                raise refusal(message)
        raise self.broken(message)

    def broken(self, message: said.Message) -> ChildDied:
        """What is wrong with a child that said such a thing now."""
        text = message.text if isinstance(message, said.Garbage) else message.model_dump_json(by_alias=True)[:80]
        return ChildDied(f"the training process broke the rules at epoch {self.epoch}: it said {text!r}")

    def _answer(self, question: said.Suggest) -> End | None:
        asked: dict[str, Any] = question.model_dump(exclude={"kind"})
        try:
            self.child.send("use", value=answer(self.trial, asked))
        except ValueError as why:  # a choice whose options are not those of earlier trials
            return End("FAIL", reason=str(why))
        return None

    def _decided(self) -> End | None:
        self._asking = False
        end = self._books.twin_end(self.trial)
        self.child.send("stop" if end else "go")
        return end

    def _epoch(self, message: said.Epoch) -> End | None:
        """Report an epoch and let the pruner decide; an end when it pruned. The last epoch is paid for already."""
        number, best = message.epoch, message.best
        follows = number == self.epoch + 1 or (message.again and not self.epoch)
        if not (follows and number <= self.epochs and self._sound(message)):
            raise self.broken(message)
        self._asking, self._fold = False, message.fold
        self.epoch, self.best = number, best
        self._books.report(self.trial, number, best)
        self._books.watch(EpochDone(self.trial.number, number, message.rmse, best, message.images_per_second))
        if number < self.epochs and self._books.prunes(self.trial, number):
            self.child.send("stop")
            return End("PRUNED", best, f"behind the others at epoch {number}")
        self.child.send("go")
        return None

    @property
    def _at_the_last_fold(self) -> bool:
        return self._folds == 1 or self._fold == self._folds

    def _sound(self, message: said.Epoch) -> bool:
        """Whether an epoch's figures can be: the smallest RMSE so far, or each fold in its turn."""
        if self._folds > 1:
            first = self._folds if message.again else 1
            possible = (self._fold, self._fold + 1) if self._fold else range(1, first + 1)
            return message.fold in possible and message.fold <= self._folds
        best = message.best
        return not message.fold and best <= message.rmse and (message.again or best == min(self.best, message.rmse))

    def _keep(self, message: said.Done) -> None:
        self.done = message
        self.child.send("keep" if self._books.deserves_a_file(message.rmse) else "drop")
