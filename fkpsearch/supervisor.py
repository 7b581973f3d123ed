"""The loop over trials: a child at work in every place, others warming up, one thread that hears them all.

Every turn takes in what the children have said, sees to those that died or fell silent, and gives each ready child a
trial. The trial is chosen only when a child is ready for it, so the sampler knows all that is known by then.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from fkpsearch import messages as said
from fkpsearch.attempt import Attempt
from fkpsearch.books import Books
from fkpsearch.child import Child, ChildDied, refusal
from fkpsearch.claim import reclaim
from fkpsearch.crew import Crew
from fkpsearch.errors import DiskFull, Problem, StudyError
from fkpsearch.events import TrialRetried, TrialStarted, Waiting
from fkpsearch.job import End, Job, Lost, losses
from fkpsearch.ledger import GPU_SECONDS
from fkpsearch.places import Place
from fkpsearch.slots import Slot, Warm

POLL = 0.2
"""Seconds between two looks at the clock and at Ctrl-C while nobody speaks"""

LOOK = 1.0
"""Seconds between two looks at other supervisors' trials, at a child's memory and at the time spent"""

BOOKING = 30.0
"""Seconds between two records of the GPU time that trials at work have had, for other supervisors of the study"""

STARTS = 3
"""Children in a row that die before they are ready: one may be killed by chance, three are a broken set-up"""

ROOM = 15.0
"""Seconds after which people are told that no machine has room for any child; of this one's it is an error then"""

LAST_WORDS = 30.0
"""Seconds a search that ends waits for children that are writing their files"""


class Supervisor:
    """The slots of one machine, or of a cluster, at work on one study."""

    def __init__(
        self, books: Books, crew: Crew, must_stop: Callable[[], bool], *, gpu_seconds: float = math.inf
    ) -> None:
        """``must_stop`` is asked at every turn; the study's trials together may take ``gpu_seconds``."""
        self.books, self.crew, self.gpu_seconds = books, crew, gpu_seconds
        self._told_to_stop = must_stop
        self.slots = [Slot(place) for place in crew.places]
        self.warm: list[Warm] = []
        self._wake = threading.Event()
        self._starts = 0
        self._looked = self._booked = -math.inf
        self._to_do = 1
        self._spent = False
        self._stop_at: float | None = None
        self._again: list[Job] = []
        """Trials that were held and are to be trained after all, or whose place has no machine any more"""
        self._no_room_since: float | None = None
        self._refused_since: float | None = None
        self._said_no_room = False

    def run(self) -> None:
        """Until the budget is finished, by whomever, or it is time to stop; nothing of this supervisor is left."""
        try:
            while self.turn():
                self._wake.wait(POLL)
                self._wake.clear()
        finally:
            self.leave_for_good()

    def leave_for_good(self) -> None:
        """Leave, however often Ctrl-C is pressed meanwhile: what is left to do takes no time."""
        pressed: KeyboardInterrupt | None = None
        while True:
            try:
                self.leave()
                break
            except KeyboardInterrupt as again:
                pressed = again
        if pressed:
            raise pressed

    def turn(self) -> bool:
        """One turn of the loop; whether there is another."""
        self.hear_all()
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            self.look()
        if self._spent or self._told_to_stop():
            self._stop_at = self._stop_at or now + LAST_WORDS
            return now < self._stop_at and any(slot.attempt and slot.attempt.done for slot in self.slots)
        self.hand_out()
        self.warm_up()
        return bool(self.books.jobs) or self._to_do > 0

    # ---- listening

    def hear_all(self) -> None:
        """Take in what the children have said since the last turn. Raises StudyError, InputError."""
        for one in list(self.warm):
            self.hear_warm(one)
        for slot in self.slots:
            if slot.child:
                self.see_to(slot, self.hear)

    def see_to(self, slot: Slot, do: Callable[[Slot], None]) -> None:
        """Do something about a child at work: it may turn out to be dead, or its trial to be another's."""
        try:
            with losses():
                try:
                    do(slot)
                except ChildDied as death:
                    self.bury(slot, death)
        except Lost:
            self.abandon(slot)

    def hear(self, slot: Slot) -> None:
        """The messages of a child at work. Raises ChildDied."""
        while slot.child and slot.attempt and (message := slot.child.receive(0)):
            end = slot.attempt.hear(message)
            slot.heard = time.monotonic()  # after the answer, which may have waited for a database that was away
            if end:
                self.finish(slot, end)

    def hear_warm(self, one: Warm) -> None:
        """Whether a child that starts is ready, or how that failed."""
        try:
            match one.child.receive(0):
                case None:
                    if not one.child.placed:  # it has not begun
                        one.began = time.monotonic()
                    if time.monotonic() - one.began < self.books.limits.silence or one.ready:
                        return
                    raise ChildDied("the training process did not start")
                case said.Ready(fingerprint=fingerprint) if not one.ready:
                    if fingerprint != self.books.ledger.facts.fingerprint:
                        advice = "put the old files back and run it again, or give the new ones another --name"
                        place = self.books.ledger.facts.data
                        raise StudyError(Problem(place, "changed while the search was running", advice=advice))
                    one.ready, self._starts = True, 0
                case said.Refused() as message:
                    raise refusal(message)
                case said.Failed(why=why):
                    raise ChildDied(why)
                case said.Full(why=why):
                    raise DiskFull(str(self.books.ledger.folder), why)
                case message:
                    raise ChildDied(f"the training process said {message!r} before it had a job")
        except ChildDied as death:
            self.warm.remove(one)
            one.child.kill()
            self._starts += not (one.ready or death.node or self._told_to_stop())
            if self._starts >= STARTS:
                raise self.cannot_start(death) from None

    def cannot_start(self, why: Exception) -> StudyError:
        """What to raise where no child can be started."""
        return StudyError(Problem(str(self.books.ledger.folder), f"no training process could be started: {why}"))

    # ---- ends

    def finish(self, slot: Slot, end: End) -> None:
        """The trial in a slot has come to its end."""
        job, child = slot.job, slot.child
        assert job
        assert child
        self.crew.collect(child, self.books.ledger.trial_folder(job.trial.number))
        slot.child = slot.attempt = slot.job = None
        if end.state == "FAIL":
            child.kill()
        else:
            child.release()
        self.books.tell(job, end, slot.place.share)

    def bury(self, slot: Slot, death: ChildDied) -> None:
        """A child died on its trial: another goes on, unless too many have."""
        assert slot.child
        assert slot.job
        slot.child.kill()
        if death.out_of_memory:
            self.finish(slot, End("PRUNED", reason=str(death), constraint="memory"))
            return
        self.books.pause(slot.job, slot.place.share)
        slot.job.since = None
        if self._told_to_stop():  # whoever ends this process may have ended its children, too
            slot.child = slot.attempt = None
            return
        if end := self.books.died(slot.job, str(death), node=death.node):
            self.finish(slot, end)
            return
        slot.child = slot.attempt = None
        self.books.watch(TrialRetried(slot.job.trial.number, str(death)))

    def abandon(self, slot: Slot) -> None:
        """The trial in a slot is another supervisor's meanwhile."""
        if slot.child:
            slot.child.kill()
        if slot.job:
            self.books.forget(slot.job)
        slot.child = slot.attempt = slot.job = None

    # ---- looking around

    def look(self) -> None:
        """What is seen to about once a second."""
        self.books.lease.renew()
        if self.books.lease.has_lapsed():
            lost = self.books.lost()
            self._again = [job for job in self._again if job not in lost]
            for slot in self.slots:
                if slot.job in lost:
                    self.abandon(slot)
        if any(slot.job is None for slot in self.slots):
            reclaim(self.books.ledger, self.books.lease, self.books.jobs)
            self._to_do = self.books.look()
        for slot in self.slots:
            if slot.child and slot.attempt:
                self.see_to(slot, self.look_after)
        if math.isfinite(self.gpu_seconds):
            self._spent = self.spent() >= self.gpu_seconds
        self.look_for_room()

    def look_for_room(self) -> None:
        """Say so, once, when no child works and none that is to start has a machine."""
        if any(slot.child for slot in self.slots) or not self.warm or any(one.child.placed for one in self.warm):
            self._no_room_since, self._said_no_room = None, False
            return
        self._no_room_since = self._no_room_since or self._looked
        if self._looked - self._no_room_since > ROOM and not self._said_no_room:
            self._said_no_room = True
            self.books.watch(Waiting("no machine has room for a training process"))

    def look_after(self, slot: Slot) -> None:
        """End a child that takes too much memory. Raises ChildDied of one that has said nothing for too long."""
        assert slot.child
        limits = self.books.limits
        if limits.memory and (taken := slot.child.memory()) > limits.memory:
            slot.child.kill()
            rule = f"took {taken / 2**20:,.0f} MiB of memory, study.limits.memory is {limits.memory / 2**20:,.0f} MiB"
            self.finish(slot, End("PRUNED", reason=rule, constraint="memory"))
        elif time.monotonic() - slot.heard > limits.silence:
            self.hear(slot)  # what it has said while this supervisor waited for a database
            if slot.child and time.monotonic() - slot.heard > limits.silence:
                raise ChildDied(f"the training process said nothing for {limits.silence:g} s")

    def spent(self) -> float:
        """GPU seconds of all trials so far, those of this supervisor's until now and of others' as last booked."""
        if self._looked - self._booked > BOOKING:
            self._booked = self._looked
            for slot in self.slots:
                if slot.child:
                    self.see_to(slot, self.book_time)
        now = time.monotonic()
        open_ = [slot.place.share * (now - slot.job.since) for slot in self.slots if slot.job and slot.job.since]
        return math.fsum([*open_, *(trial.user_attrs.get(GPU_SECONDS, 0.0) for trial in self.books.ledger.trials)])

    def book_time(self, slot: Slot) -> None:
        """What the child in a slot has had until now."""
        assert slot.job
        self.books.pause(slot.job, slot.place.share)

    # ---- handing out

    def hand_out(self) -> None:
        """Give every ready child a trial: one whose child died, or one that was held, before a new one."""
        self._again += self.books.release_held()
        away = self.away()
        for slot in self.slots:
            if slot.job and not slot.child and slot.place in away:  # nobody knows when it will have a machine again
                self._again.append(slot.job)
                slot.job = None
        # those that have a trial first: an idle one before them would take their child, for which there is no other
        for slot in sorted(self.slots, key=lambda one: one.job is None):
            if slot.child:
                continue
            one = next((one for one in self.warm if one.ready and one.place == slot.place), None)
            if one is None:
                continue
            slot.job = slot.job or (self._again.pop(0) if self._again else self.books.take())
            if slot.job is None:
                break
            self.warm.remove(one)
            self.begin(slot, slot.job, one.child)

    def begin(self, slot: Slot, job: Job, child: Child) -> None:
        """Give a child its job."""
        assert job.settings
        limits = self.books.limits.model_dump(mode="json", exclude_none=True)
        child.send(
            "train",
            folder=str(self.books.ledger.trial_folder(job.trial.number).resolve()),
            settings=job.settings.model_dump(mode="json"),
            ask=True,
            twins=job.asks,
            limits=limits,
        )
        slot.child = child
        folds = job.settings.validation.folds
        slot.attempt = Attempt(job.trial, job.epochs, child, self.books, asks=job.asks, folds=folds)
        slot.heard = job.since = time.monotonic()
        self.books.watch(TrialStarted(job.trial.number, child.pid, slot.place.label))

    def away(self) -> list[Place]:
        """Places whose children wait for a machine."""
        return [one.place for one in self.warm if not one.child.placed]

    def warm_up(self) -> None:
        """Start as many children as there are trials for: one for each idle slot, a spare for each place.

        A place that has no machine is waited for, but takes no trial away from another.
        """
        wanted: list[Place] = []
        left = self.books.open + len(self._again)
        away = self.away()
        for slot in self.slots:
            if slot.child is None and (slot.job or left > 0):
                wanted.append(slot.place)
                left -= slot.job is None and slot.place not in away
        for place in dict.fromkeys(slot.place for slot in self.slots):
            if left > 0:
                wanted.append(place)
                left -= 1
        for one in self.warm:
            if one.place in wanted:
                wanted.remove(one.place)
        for place in wanted:
            try:
                self.warm.append(Warm(place, self.crew.start(place, self._wake.set)))
            except OSError as why:  # no room for another process: those that are there go on, and may make some
                self._refused_since = self._refused_since or time.monotonic()
                alone = not (self.warm or any(slot.child for slot in self.slots))
                if alone and time.monotonic() - self._refused_since > ROOM:
                    raise self.cannot_start(why) from None
                break
            self._refused_since = None

    def leave(self) -> None:
        """End every child, whatever the storage says then, and put back what is not finished."""
        for child in (*(slot.child for slot in self.slots), *(one.child for one in self.warm)):
            if child:
                child.kill()
        self.books.sweep()  # first: on a full disk whatever follows may fail
        for slot in self.slots:
            if slot.child:
                self.see_to(slot, self.book_time)
        for job in list(self.books.jobs.values()):
            self.books.give_back(job)
        reclaim(self.books.ledger, self.books.lease, ())  # what an interruption kept from being known here
        self.books.shelf.tidy()
        self.books.lease.end()
