"""Function `cpu_hint`: finds by its CPU time whether the threads of a run waited for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run_model import RunModel

ONE_CPU = (0.85, 1.1)
"""Part of the duration of a run for which its process uses a CPU, if its threads wait for each other."""
CONCURRENT = 1.5
"""Least average number of tasks that run at a time."""
NAMED = 0.1
"""Least part of the CPU time for which a task is named."""
LEAST_SECONDS = 0.2
"""Shortest run, in seconds, whose CPU time is compared with its duration."""


def cpu_hint(run: RunModel) -> str:
    """Return a sentence if several tasks ran at a time in threads, and all together used one CPU; else "".

    Where the CPU time of the tasks is known, the sentence names those that used most of it, and several of these must
    have run at a time: tasks that wait beside one that computes do not call for processes.
    """
    seconds = run.executions[-1].ended - run.executions[-1].started if run.executions else 0.0
    if run.cpu is None or run.executor not in ("thread", "threads") or seconds < LEAST_SECONDS:
        return ""
    share = run.cpu / seconds
    if not ONE_CPU[0] <= share <= ONE_CPU[1]:
        return ""
    known = [task for task in run.tasks if task.cpu is not None]
    busy = [task for task in known if (task.cpu or 0.0) >= NAMED * run.cpu]
    last = len(run.executions)
    counted = run.tasks if not known else busy
    work = 0.0
    for task in counted:
        mine = [attempt.seconds for attempt in task.attempts if attempt.execution == last]
        work += sum(task.spans.values()) if task.spans else sum(mine)
    at_a_time = work / seconds
    if at_a_time < CONCURRENT:
        return ""
    used = f"The process used {share:.0%} of one CPU while {at_a_time:.1f} tasks ran at a time"
    if not busy:
        return (
            f"{used}: if they are Python code, they wait for each other, as it does in threads; "
            f"run(executor='process') runs them side by side."
        )
    busy.sort(key=lambda task: -(task.cpu or 0.0))
    names = [f"{task.name} ({(task.cpu or 0.0) / run.cpu:.0%})" for task in busy]
    listed = f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
    return (
        f"{used}: Python code in threads waits for each other. Most of the CPU time was that of {listed}; "
        f"run(executor='process') runs them side by side."
    )
