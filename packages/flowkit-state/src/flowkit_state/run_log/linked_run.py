"""Linked runs: new runs that take over results of a recorded run, which stays as it is."""

from __future__ import annotations

import time

from flowkit_state.errors import StateOptionError, UnknownRunError, comma_list, short_repr
from flowkit_state.run_log.elements import RunMaps
from flowkit_state.run_log.journal import RECORD, EarlierElements, RecordedTask, RunJournal
from flowkit_state.run_log.parameters import NO_IDENTITY, RunParameters, changed_parameters
from flowkit_state.run_log.plan import PipelinePlan
from flowkit_state.run_log.resume import Recorded, begin, digest_key
from flowkit_state.runs import UnrecordedValue
from flowkit_state.serialization.json_text import dumps
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import Claim
from flowkit_state.storage.row_check import reading
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.run_log.queries import RunHistory
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database

_IDENTITY = "SELECT identity FROM runs WHERE run_id = ?"
_RUN = "SELECT id, run_id, plan, owner FROM runs WHERE run_id = ?"
_LINK = "UPDATE runs SET parent = ?, rerun = ? WHERE id = ?"
_TAKE_OVER = f"INSERT {RECORD}"


def link_run(
    history: RunHistory, serialization: Serialization, pipeline: str, of: str | None, params: Mapping[str, Any]
) -> tuple[str, dict[str, Any], frozenset[str]]:
    """Implement `StateManager.link_run`."""
    if of is None:
        runs = history.runs(pipeline, 1)
        if not runs:
            raise StateOptionError("of", None, f"the id of a recorded run: no run of {pipeline!r} is recorded")
        run = runs[0]
    else:
        run = history.run(of)
    if run.pipeline != pipeline:
        raise StateOptionError("of", run.run_id, f"a run of {pipeline!r}; this is a run of {run.pipeline!r}")
    merged = run.params | dict(params)
    lost = [name for name, value in merged.items() if isinstance(value, UnrecordedValue)]
    if lost:
        allowed = f"values for {comma_list([*map(short_repr, lost)])} as well, which run {run.run_id} has no values of"
        raise StateOptionError("params", dict(params), allowed)
    return run.run_id, merged, changed_parameters(run.params, params, serialization.serializers)


def open_linked_run(
    database: Database,
    serialization: Serialization,
    run_id: str,
    pipeline: str,
    tasks: Sequence[PlannedTask],
    upstream: Sequence[Sequence[int]],
    params: Mapping[str, Any],
    of: str,
    rerun: Collection[str],
    max_age: float | None,
) -> RunJournal:
    """Implement `StateManager.open_linked_run`."""
    serialization.check_trust()
    plan = PipelinePlan.of(tasks, upstream, digest_key(database))
    rows, _ = database.execute("read it", _RUN, (to_sql(of),))
    if not rows:
        raise UnknownRunError(of, database.path)
    with reading(database.path, f"the record of run {short_repr(of)}", "forget() deletes it."):
        recorded = Recorded(database, serialization, rows[0], pipeline, keeps_dropped=True)
        done, outdated = recorded.up_to_date(plan, max_age)
    given = RunParameters(params, serialization.serializers)
    identity = database.execute("read it", _IDENTITY, (to_sql(of),))[0][0][0]
    has_same_params = given.identity == identity != NO_IDENTITY
    readers = () if has_same_params else plan.context_readers()
    asked = dict.fromkeys(readers, "its code calls flowkit.current(), and the parameters of the run have changed")
    asked |= dict.fromkeys(rerun, "run(rerun=...) asks for it")
    names = plan.names()
    runs: set[int] = set()
    again: set[int] = set()  # the tasks in `asked`, and everything downstream of them
    for index, name in enumerate(names):
        causes = [short_repr(names[source]) for source in upstream[index] if source in runs]
        if name in asked or any(source in again for source in upstream[index]):
            again.add(index)
        if name in asked or causes or index not in done:
            runs.add(index)
            if done.pop(index, None) is not None:
                outdated[index] = asked.get(name) or f"it depends on {comma_list(causes, 3)}"
    claim = Claim()
    try:
        with Batch(database):
            row = begin(database, serialization, run_id, pipeline, plan, given, claim)
            database.execute("record a run in it", _LINK, (of, dumps(sorted(rerun)), row))
            _take_over(database, row, names, done, recorded.tasks, of)
            for name in recorded.maps.by_name:
                if name in names and (names.index(name) in done or names.index(name) not in again):
                    recorded.maps.copy(name, row)
            maps = RunMaps(database, serialization, row)
    except BaseException:
        claim.release()
        raise
    earlier = EarlierElements(maps, plan)
    return RunJournal(database, serialization, row, 1, run_id, names, done, outdated, claim, earlier)


def _take_over(
    database: Database,
    row: int,
    names: Sequence[str],
    done: Mapping[int, RecordedTask],
    recorded: Mapping[str, Sequence[Any]],
    of: str,
) -> None:
    """Record the results that are taken over, without an attempt."""
    now, rows = time.time(), []
    for index in done:
        name = names[index]
        state, _, _, _, value, blob, reason, _ = recorded[name]
        facts = (row, 1, index, 0, to_sql(name), state, None, now, None, None, None, None)
        rows.append((*facts, value, blob, reason, None, "resume", f"taken over from run {of}"))
    database.execute_many("record a task in it", _TAKE_OVER, rows)
