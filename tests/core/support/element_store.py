"""A store in memory that keeps all that a journal may keep: elements of mapped tasks, notes and log lines."""

from __future__ import annotations

import pickle
from types import SimpleNamespace


class ElementStore:
    """Keeps runs as the protocols of `flowkit_core.persistence` ask. Values are pickled.

    Attributes:
        runs: the runs, oldest first.
        fails: called with the name of an operation and its subject, before it is made; may raise.
    """

    def __init__(self, *, fails=lambda _operation, _subject: None, **_options):
        self.runs = []
        self.fails = fails

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def open_run(self, run_id, pipeline, tasks, upstream, params, resume, resume_max_age):
        if not resume or not self.runs or self.runs[-1].status == "succeeded":
            self.runs.append(RecordedRun(run_id))
        run = self.runs[-1]
        run.status, run.names = "running", [task.name for task in tasks]
        run.executions += 1
        return Journal(run, self.fails)

    def release(self, run_id):
        """Do nothing: no process owns a run."""

    def close(self):
        """Do nothing: the runs are kept."""


class RecordedRun:
    """What is recorded of a run.

    Attributes:
        status: its status, also between its executions.
        tasks: name of a task -> the facts of its last attempt.
        elements: name of a mapped task and number of an element -> fingerprint, outcome and pickled value.
        sizes: name of a mapped task -> number of its elements; None if it is not known.
        notes: name of a task and number of an element or None -> the notes.
        lines: messages of log lines.
        origin: how the last execution was started.
    """

    def __init__(self, run_id):
        self.run_id = run_id
        self.status = "running"
        self.executions = 0
        self.names = []
        self.tasks = {}
        self.elements = {}
        self.sizes = {}
        self.notes = {}
        self.lines = []
        self.origin = None

    def states(self, task):
        """Return number -> state of the elements of a task."""
        return {number: row[1].state for (name, number), row in sorted(self.elements.items()) if name == task}


class Journal:
    """The record of one execution."""

    def __init__(self, run, fails):
        self.run = run
        self.run_id = run.run_id
        self.fails = fails
        self.outdated = {}
        self.done = {}
        for index, name in enumerate(run.names):
            facts = run.tasks.get(name)
            if facts is not None and facts["state"] in ("succeeded", "skipped") and self._is_complete(name):
                self.done[index] = SimpleNamespace(**facts)
                if name in run.sizes:
                    elements = self.done[index].elements = self._elements(name)
                    self.done[index].value = list(elements.values.values())
                    self.done[index].has_value = True
                else:
                    self.done[index].value = pickle.loads(facts["value"])

    def _is_complete(self, name):
        states = self.run.states(name)
        if name not in self.run.sizes:
            return True
        return len(states) == self.run.sizes[name] and "failed" not in states.values()

    def _elements(self, name):
        rows = {number: row for (task, number), row in sorted(self.run.elements.items()) if task == name}
        return SimpleNamespace(
            states=[row[1].state for row in rows.values()],
            values={number: pickle.loads(row[2]) for number, row in rows.items() if row[1].state == "succeeded"},
            reasons={number: row[1].reason for number, row in rows.items() if row[1].state == "skipped"},
        )

    def prepare(self, index, value):
        self.fails("prepare", self.run.names[index])
        return pickle.dumps(value)

    def record(self, outcomes):
        for outcome in outcomes:
            name = self.run.names[outcome.index]
            self.fails("record", name)
            self.run.tasks[name] = {
                "state": outcome.state,
                "value": outcome.stored or pickle.dumps(None),
                "has_value": outcome.stored is not None,
                "reason": outcome.reason,
                "attempts": outcome.number,
                "seconds": outcome.seconds or 0.0,
                "why": outcome.why,
                "source": outcome.source,
            }

    def open_map(self, index, size, sources, others, common, has_values):
        self.fails("open_map", self.run.names[index])
        self.run.sizes[self.run.names[index]] = size
        return MapRecord(self, self.run.names[index])

    def record_elements(self, rows):
        for name, number, *row in rows:
            self.fails("record_elements", f"{name}[{number}]")
            self.run.elements[name, number] = row

    def notes(self, index, element):
        return self.run.notes.get((self.run.names[index], element), {})

    def remember(self, index, element, key, value):
        self.fails("remember", key)
        self.run.notes.setdefault((self.run.names[index], element), {})[key] = value

    def describe(self, *origin):
        self.run.origin = origin

    def log(self, lines):
        self.fails("log", lines)
        self.run.lines += [(line.task, line.element, line.level, line.message) for line in lines]
        return True

    def close(self, status, rest, error):
        self.fails("close", status)
        self.run.status = status


class MapRecord:
    """The record of the elements of one mapped task, which are compared by their pickled values."""

    def __init__(self, journal, name):
        self.journal = journal
        self.name = name
        self.earlier = {number: row for (task, number), row in journal.run.elements.items() if task == name}

    @property
    def has_recorded(self):
        return bool(self.earlier)

    def fingerprint(self, given):
        return pickle.dumps(given)

    def find(self, number, given, *, is_same):
        fingerprint, outcome, value = self.earlier.pop(number, (None, None, None))
        if fingerprint != self.fingerprint(given) or outcome.state == "failed":
            return None
        result = pickle.loads(value) if outcome.state == "succeeded" else None
        row = (self.name, number, fingerprint, outcome, value)
        return SimpleNamespace(state=outcome.state, value=result, reason=outcome.reason, row=row)

    def prepare(self, outcome):
        self.journal.fails("prepare", f"{self.name}[{outcome.number}]")
        return self.name, outcome.number, outcome.fingerprint, outcome, pickle.dumps(outcome.value)

    def note_size(self, size):
        self.journal.fails("note_size", self.name)
        self.journal.run.sizes[self.name] = size
