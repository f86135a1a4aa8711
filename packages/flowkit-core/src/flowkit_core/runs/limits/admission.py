"""Class `Admission`: which jobs may start, by the slots of pools and the rates that they need.

The rule: a job takes all its slots together, and no job behind it takes a slot of one of its pools before it does. Jobs
are in the order of their rank. So every job gets its turn, and none holds some slots while it waits for others.
"""

from __future__ import annotations

from _thread import allocate_lock
from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING

from .errors import PoolBlockedError
from .rate import TOLERANCE, Rate, StartTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from flowkit_core._typing import Any

DEFAULT_PATIENCE = 2.0
"""Seconds that a job without a timeout waits for slots that abandoned attempts without a timeout hold."""


class Claim:
    """What one job needs in order to start.

    Attributes:
        key: identifies the job in the run: the index of a node, with the number of the element.
        job: the job, which is returned when it may start.
        name: name of its task, for messages.
        amounts: name of a pool -> number of slots, or of starts.
        rank: place in the order of jobs, smallest first; different for each job of the run.
        timeout: seconds that it waits for slots that abandoned attempts hold; None means as long as the timeout of the
            task of such an attempt.
    """

    __slots__ = ("amounts", "job", "key", "name", "rank", "timeout")

    def __init__(
        self,
        key: Hashable,
        job: Any,
        name: str,
        amounts: Mapping[str, int],
        rank: tuple[int, ...],
        timeout: float | None = None,
    ) -> None:
        self.key = key
        self.job = job
        self.name = name
        self.amounts = amounts
        self.rank = rank
        self.timeout = timeout

    def __lt__(self, other: Claim) -> bool:
        return self.rank < other.rank


class _Holder:
    """A job that holds slots.

    Attributes:
        claim: its claim.
        running: number of its attempt that is running; 0 if none is.
        abandoned: numbers of its attempts that were abandoned and go on.
        ended: numbers of those that ended before they were abandoned.
    """

    __slots__ = ("abandoned", "claim", "ended", "running")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.running = 0
        self.abandoned: set[int] = set()
        self.ended: set[int] = set()


class Admission:
    """The pools of one run: who holds slots, and who waits. All methods may be called from any thread.

    :meth:`start` is called for a job when a worker could start it. If it returns False, the job waits, without a
    worker, until :meth:`end`, :meth:`end_abandoned`, :meth:`withdraw` or :meth:`due` returns it; then :meth:`start` is
    called for it again. It holds no slots before that returns True.
    Jobs are nodes, and elements of mapped nodes.

    Args:
        pools: name of a pool -> number of slots, or a `Rate`.
        now: returns the current time in seconds.

    Attributes:
        now: see above.
        on_alarm: called, without the lock of these pools, when :meth:`due` must be called earlier than it had to be
            before. The run may hold its own lock.

    Examples:
        >>> admission = Admission({"db": 1})
        >>> one, two = (Claim(name, name, name, {"db": 1}, (rank,)) for rank, name in enumerate(("one", "two")))
        >>> admission.start(one, 1), admission.start(two, 1)
        (True, False)
        >>> admission.end(one, 1)
        ['two']
        >>> admission.start(two, 1)
        True
    """

    def __init__(self, pools: Mapping[str, int | Rate], now: Callable[[], float] = monotonic) -> None:
        self.now = now
        self.on_alarm: Callable[[], None] | None = None
        self._lock = allocate_lock()
        self._size: dict[str, int] = {}
        self._free: dict[str, int] = {}
        self._times: dict[str, StartTimes] = {}
        self._queues: dict[str, list[Claim]] = {}  # pool -> claims that wait, in order
        for name, size in pools.items():
            self._queues[name] = []
            if isinstance(size, Rate):
                self._times[name] = StartTimes(size)
            else:
                self._size[name] = self._free[name] = size
        self._holders: dict[Hashable, _Holder] = {}
        self._waiting: dict[Hashable, Claim] = {}
        self._queued_in: dict[Hashable, Sequence[str]] = {}  # the pools in whose queues they are
        self._called: set[Hashable] = set()  # those of them that were returned and have not called start() yet
        self._give_up_at: dict[Hashable, tuple[float, float, str]] = {}  # those that abandoned attempts keep waiting
        self._rate_alarm: float | None = None  # when a job that waits for a rate may start

    def __len__(self) -> int:
        """Return the number of jobs that wait."""
        return len(self._waiting)

    # ---- starts and ends -------------------------------------------------------------------------------------------

    def start(self, claim: Claim, attempt: int) -> bool | PoolBlockedError:
        """Take the slots of a job that a worker would start now.

        Returns:
            True if it may start; False if it has to wait; an error if it has waited too long.
        """
        key = claim.key
        with self._lock:
            holder = self._holders.get(key)
            if holder is not None and holder.running == attempt:
                return True  # its call was withdrawn from a worker and is made again
            now = self.now()
            claim = self._waiting.get(key, claim)  # an equal one
            if self._give_up_at and (found := self._give_up_at.get(key)) is not None and found[0] <= now + TOLERANCE:
                self._remove(claim)
                return PoolBlockedError(claim.name, found[2], found[1], self._names_of_abandoned(found[2]))
            before = self._next_alarm()
            if key not in self._waiting:
                if not self._is_behind(claim) and self._fits(claim, now):
                    self._take(claim, attempt, now)
                    return True
                self._add(claim)
            self._called.discard(key)
            if claim in self._fitting(now):
                self._remove(claim)
                self._take(claim, attempt, now)
                is_started = True
            else:
                self._watch_abandoned(now)
                is_started = False
            is_earlier = _is_earlier(self._next_alarm(), before)
        self._announce(is_earlier)
        return is_started

    def end(self, claim: Claim, attempt: int, *, is_abandoned: bool = False) -> Sequence[Any]:
        """Give back the slots of an attempt that has ended; return the jobs that may start now.

        Args:
            claim: the claim of its job.
            attempt: its number.
            is_abandoned: whether the attempt was abandoned and goes on: it keeps its slots, which the next attempt of
                the same job uses, until :meth:`end_abandoned` is called.
        """
        with self._lock:
            before = self._next_alarm()
            holder = self._holders.get(claim.key)
            if holder is not None and holder.running == attempt:
                holder.running = 0
                if is_abandoned and attempt not in holder.ended:
                    holder.abandoned.add(attempt)
                holder.ended.discard(attempt)
            elif holder is not None and attempt in holder.abandoned:
                if not is_abandoned:
                    holder.abandoned.discard(attempt)
            elif claim.key in self._waiting:  # it has ended without being started
                self._remove(claim)
            jobs = self._release(claim)
            is_earlier = _is_earlier(self._next_alarm(), before)
        self._announce(is_earlier)
        return jobs

    def end_abandoned(self, claim: Claim, attempt: int) -> Sequence[Any]:
        """Give back the slots of an abandoned attempt, which has ended now; return the jobs that may start.

        It may be called more than once, and before :meth:`end` is called for the same attempt.
        """
        with self._lock:
            holder = self._holders.get(claim.key)
            if holder is None:
                return ()
            before = self._next_alarm()
            if holder.running == attempt:
                holder.ended.add(attempt)
            holder.abandoned.discard(attempt)
            jobs = self._release(claim)
            is_earlier = _is_earlier(self._next_alarm(), before)
        self._announce(is_earlier)
        return jobs

    def withdraw(self, is_wanted: Callable[[Any], bool]) -> Sequence[Any]:
        """Remove the jobs that wait and are not wanted any more; return those, and jobs that may start instead."""
        with self._lock:
            before = self._next_alarm()
            removed = [claim for claim in self._waiting.values() if not is_wanted(claim.job)]
            jobs = [claim.job for claim in removed if claim.key not in self._called]
            for claim in removed:
                self._remove(claim)
            jobs += self._call_fitting(self.now())
            is_earlier = _is_earlier(self._next_alarm(), before)
        self._announce(is_earlier)
        return jobs

    def due(self) -> Sequence[Any]:
        """Return the jobs that may start because time has passed, and those that have waited too long."""
        with self._lock:
            now = self.now()
            jobs = []
            for key, (time, _, _) in self._give_up_at.items():
                if time <= now + TOLERANCE and key not in self._called:  # start() returns the error
                    self._called.add(key)
                    jobs.append(self._waiting[key].job)
            jobs += self._call_fitting(now)
        return jobs

    def seconds_left(self) -> float | None:
        """Return the seconds until :meth:`due` must be called; None if that is not necessary."""
        with self._lock:
            alarm = self._next_alarm()
            return None if alarm is None else max(0.0, alarm - self.now())

    # ---- the order -------------------------------------------------------------------------------------------------

    def _is_behind(self, claim: Claim) -> bool:
        """Return whether other jobs wait for one of the pools that a claim needs."""
        return bool(self._waiting) and any(self._queues[pool] for pool in self._needed(claim))

    def _needed(self, claim: Claim) -> Sequence[str]:
        """Return the pools that a claim needs: without those whose slots an abandoned attempt of the job holds."""
        if claim.key in self._holders:
            return [pool for pool in claim.amounts if pool in self._times]
        return tuple(claim.amounts)

    def _fits(self, claim: Claim, now: float) -> bool:
        """Return whether a claim could be met if no other job waited."""
        for pool in self._needed(claim):
            times = self._times.get(pool)
            if (self._free[pool] if times is None else times.left(now)) < claim.amounts[pool]:
                return False
        return True

    def _fitting(self, now: float) -> list[Claim]:
        """Return the waiting claims that can be met now, by the rule, and set the alarm for the next start.

        The queues of all pools are merged in order of rank, until the first claim of each cannot be met.
        """
        free = dict(self._free)
        left = {pool: times.left(now) for pool, times in self._times.items()}
        heads = [(queue[0].rank, pool) for pool, queue in self._queues.items() if queue]
        heapify(heads)
        next_of = dict.fromkeys(self._queues, 0)
        blocked: set[str] = set()
        seen: set[Hashable] = set()
        fitting: list[Claim] = []
        self._rate_alarm = None
        while heads:
            pool = heappop(heads)[1]
            if pool in blocked:
                continue
            queue = self._queues[pool]
            claim = queue[next_of[pool]]
            if claim.key not in seen:
                seen.add(claim.key)
                pools = self._queued_in[claim.key]
                if blocked.isdisjoint(pools) and self._subtract(claim, free, left, now):
                    fitting.append(claim)
                else:
                    blocked.update(pools)
            if pool not in blocked:
                next_of[pool] += 1
                if next_of[pool] < len(queue):
                    heappush(heads, (queue[next_of[pool]].rank, pool))
        return fitting

    def _subtract(self, claim: Claim, free: dict[str, int], left: dict[str, int], now: float) -> bool:
        """Subtract what a claim needs from what is left; or return False, and set the alarm if only starts lack."""
        amounts = {pool: claim.amounts[pool] for pool in self._queued_in[claim.key]}
        if any(free[pool] < amount for pool, amount in amounts.items() if pool in free):
            return False
        times = [
            self._times[pool].time_for(self._times[pool].left(now) - left[pool] + amount, now)
            for pool, amount in amounts.items()
            if pool in left and left[pool] < amount
        ]
        if times:
            time = max(times)
            self._rate_alarm = time if self._rate_alarm is None else min(time, self._rate_alarm)
            return False
        for pool, amount in amounts.items():
            (free if pool in free else left)[pool] -= amount
        return True

    def _call_fitting(self, now: float) -> list[Any]:
        """Return the jobs that may start and have not been returned yet."""
        if not self._waiting:
            self._rate_alarm = None
            return []
        new = [claim for claim in self._fitting(now) if claim.key not in self._called]
        self._called.update(claim.key for claim in new)
        return [claim.job for claim in new]

    def _add(self, claim: Claim) -> None:
        self._waiting[claim.key] = claim
        self._queued_in[claim.key] = pools = self._needed(claim)
        for pool in pools:
            insort(self._queues[pool], claim)

    def _remove(self, claim: Claim) -> None:
        del self._waiting[claim.key]
        self._called.discard(claim.key)
        self._give_up_at.pop(claim.key, None)
        for pool in self._queued_in.pop(claim.key):
            queue = self._queues[pool]
            del queue[bisect_left(queue, claim)]

    def _take(self, claim: Claim, attempt: int, now: float) -> None:
        holder = self._holders.get(claim.key)
        if holder is None:
            holder = self._holders[claim.key] = _Holder(claim)
            for pool, amount in claim.amounts.items():
                if pool in self._free:
                    self._free[pool] -= amount
        holder.running = attempt
        if self._give_up_at:
            self._watch_abandoned(now)
        for pool, amount in claim.amounts.items():
            if pool in self._times:
                self._times[pool].add(now, amount)

    # ---- ends and abandoned attempts -------------------------------------------------------------------------------

    def _release(self, claim: Claim) -> Sequence[Any]:
        """Give back the slots of a job if it has no attempts any more; return the jobs that may start."""
        key, holder = claim.key, self._holders.get(claim.key)
        if holder is not None and not (holder.running or holder.abandoned):
            del self._holders[key]
            for pool, amount in claim.amounts.items():
                if pool in self._free:
                    self._free[pool] += amount
            if key in self._waiting:  # its next attempt, which now needs slots, too
                is_called = key in self._called
                self._remove(claim)
                self._add(claim)
                if is_called:
                    self._called.add(key)
        if not self._waiting:
            return ()
        now = self.now()
        jobs = self._call_fitting(now)
        self._watch_abandoned(now)
        return jobs

    def _watch_abandoned(self, now: float) -> None:
        """Set when the jobs fail that cannot start unless an abandoned attempt ends."""
        abandoned = [each for each in self._holders.values() if each.abandoned and not each.running]
        if not abandoned:
            self._give_up_at.clear()
            return
        held = dict.fromkeys(self._size, 0)
        longest = dict.fromkeys(self._size, 0.0)
        for holder in abandoned:
            for pool, amount in holder.claim.amounts.items():
                if pool in held:
                    held[pool] += amount
                    longest[pool] = max(longest[pool], holder.claim.timeout or DEFAULT_PATIENCE)
        for key, claim in self._waiting.items():
            pools = () if key in self._holders else [pool for pool in claim.amounts if pool in held]
            lacking = [pool for pool in pools if self._size[pool] - held[pool] < claim.amounts[pool]]
            if not lacking:
                self._give_up_at.pop(key, None)
            elif key not in self._give_up_at:
                seconds = claim.timeout or longest[lacking[0]]
                self._give_up_at[key] = now + seconds, seconds, lacking[0]

    def _names_of_abandoned(self, pool: str) -> list[str]:
        """Return the names of the tasks with abandoned attempts that hold slots of a pool."""
        holders = [each.claim for each in self._holders.values() if each.abandoned and not each.running]
        return list(dict.fromkeys(claim.name for claim in holders if pool in claim.amounts))

    def _next_alarm(self) -> float | None:
        alarm = self._rate_alarm
        for key, (time, _, _) in self._give_up_at.items():
            if key not in self._called:
                alarm = time if alarm is None else min(alarm, time)
        return alarm

    def _announce(self, is_earlier: bool) -> None:
        if is_earlier and self.on_alarm is not None:
            self.on_alarm()


def _is_earlier(alarm: float | None, before: float | None) -> bool:
    return alarm is not None and (before is None or alarm < before)
