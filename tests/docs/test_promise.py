"""The blocks of code that define flowkit's promised interface run unchanged and have the promised effects.

The blocks are in promise/blocks.txt, word for word; promise/helpers.py defines the names that they lack. Each runs with
every executor, as a script and as cells of a notebook. Only the executor in the call of ``run()`` is replaced; for
"thread", which the blocks use themselves, nothing is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flowkit import DAG, LogLevel, RunStarted, StateManager, Task, TaskRetrying, task

PROMISE = Path(__file__).parent / "promise"
END = "--- the end of a case ---"
SECONDS = 120  # a guard against hanging, never a wait
EXECUTORS = ["serial", "thread", "process"]
# IPython has threads, so that its cells get to processes with the help of cloudpickle only.
IPYTHON = all(map(importlib.util.find_spec, ["IPython", "cloudpickle"]))
FORKED = "platform: without cloudpickle, processes get what is typed by a fork, which is safe on Linux only"
SHELLS = ["prompt", "cell", *(["ipython"] if IPYTHON else [])]

_, *_parts = re.split(r"^=== (.+)\n", (PROMISE / "blocks.txt").read_text("utf-8"), flags=re.MULTILINE)
BLOCKS = {name: text.rstrip() + "\n" for name, text in zip(_parts[::2], _parts[1::2], strict=True)}


@dataclass(frozen=True)
class Case:
    """A block, the code before and after it, the printed output, and the files that are left."""

    name: str
    prints: str
    before: str = ""
    block: str = ""
    after: str = ""
    files: dict[str, str] = field(default_factory=dict)
    leaves: dict[str, str] = field(default_factory=dict)

    def cells(self, executor: str) -> list[str]:
        start = f"from helpers import *\nfrom flowkit import DAG, Flow, task\nexecutor = {executor!r}\n"
        return [start + self.before, run_on(executor, self.block), self.after]

    def prepare(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, "utf-8")
        return folder

    def left(self, folder: Path) -> dict[str, str]:
        return {name: (folder / name).read_text("utf-8") for name in self.leaves if (folder / name).exists()}


def run_on(executor: str, block: str) -> str:
    """Replace the executor in the one call of run() that a block may have."""
    if executor == "thread":
        return block
    changed, times = re.subn(r'\.run\((executor="thread")?\)', f'.run(executor="{executor}")', block)
    assert times == block.count(".run(") <= 1
    return changed


NO_RUN = '\nresults = DAG("promise").run(executor)\nprint(results)\n'

# The wiring snippets, in one pipeline: the result of a task shows its arguments, in order.
NAMES = ["task1", "task2", "task3", "task4", "extract", "transform", "validate", "enrich", "load", "notify"]
SHOWING = "".join(f"@task()\ndef {name}(*before):\n    return '{name}(' + ', '.join(before) + ')'\n" for name in NAMES)
QUICK = "{'extract': [3, 1, 2], 'transform': [1, 2, 3], 'load': 'Success'}\n"
FETCHED = "[{'id': 1, 'value': 10}, {'id': 2, 'value': 20}]"

CASES = [
    Case(
        "DAG",
        block=BLOCKS["quick dag"],
        after='print(results["load"], results == {"extract": [3, 1, 2], "transform": [1, 2, 3], "load": "Success"})\n',
        prints=QUICK + "Success True\n",
        leaves={"db": "[1, 2, 3]\n"},
    ),
    Case("Flow", block=BLOCKS["quick flow"], prints=QUICK, leaves={"db": "[1, 2, 3]\n"}),
    Case(
        "one task",
        block=BLOCKS["a task"],
        after='print(my_task("input"), DAG("one").run(executor, params={"input_data": "input"}))\n',
        prints="a result {'my_task': 'a result'}\n",
    ),
    Case(
        "retries",
        block=BLOCKS["robust task"],
        after="fast = robust_task.with_options(delay=robust_task.delay / 10_000)\n"
        "events = []\n"
        'print(DAG("retries").run(executor, observers=[events.append]), waits(events, 10_000))\n',
        files={"busy": "3"},
        prints="{'robust_task': 'it went well'} [2, 4, 8]\n",
        leaves={"busy": "0"},
    ),
    Case(
        "one retry too few",
        block=BLOCKS["robust task"],
        after="fast = robust_task.with_options(delay=robust_task.delay / 10_000)\n"
        "events = []\n"
        "try:\n"
        '    DAG("retries").run(executor, observers=[events.append])\n'
        "except ConnectionError as error:\n"
        '    print(error, waits(events, 10_000), error.flowkit_results.states["robust_task"])\n',
        files={"busy": "9"},
        prints="busy [2, 4, 8] failed\n",
        leaves={"busy": "5"},
    ),
    Case(
        "five retries",
        block=BLOCKS["flaky call"],
        after="fast = flaky_api_call.with_options(delay=flaky_api_call.delay / 10_000)\n"
        "events = []\n"
        'print(DAG("retries").run(executor, observers=[events.append]), waits(events, 10_000))\n',
        files={"busy": "5"},
        prints=f"{{'flaky_api_call': {FETCHED}}} [1, 2, 4, 8, 16]\n",
        leaves={"busy": "0"},
    ),
    Case(
        "operators",
        before=SHOWING,
        block=BLOCKS["operators"],
        after='results = DAG("operators").run(executor)\nfor name in sorted(results):\n    print(results[name])\n',
        prints="""\
enrich(transform(extract()))
extract()
load(validate(transform(extract())), enrich(transform(extract())))
notify(load(validate(transform(extract())), enrich(transform(extract()))))
task1()
task2(task1())
task3(task2(task1()), task1())
task4(task1())
transform(extract())
validate(transform(extract()))
""",
    ),
    Case(
        "execution",
        before=BLOCKS["quick dag"].partition("# Execute")[0],
        block=BLOCKS["execution"],
        after="print(results)\n",
        prints=QUICK,
        leaves={"db": "[1, 2, 3]\n"},
    ),
    Case(
        "branches of a flow",
        block=BLOCKS["user pipeline"],
        after='print(list(results))\nprint(results["combine"])\n',
        prints="""\
['fetch_user', 'fetch_orders', 'fetch_recommendations', 'combine']
{'user': {'id': 1, 'name': 'Alice'}, 'orders': ['order1', 'order2'], 'recommendations': ['item1', 'item2']}
""",
    ),
    Case(
        "conditions",
        block=BLOCKS["conditional"],
        after=NO_RUN + "print(results.skipped)\n",
        prints="""\
{'check_data': 1500, 'handle_large_data': 'Processing large dataset: 1500'}
{'handle_small_data': 'its condition was false'}
""",
    ),
    Case(
        "branches",
        block=BLOCKS["branching"],
        after=NO_RUN,
        prints="{'fetch_data': [4, 5, 6], 'process_a': 15, 'process_b': 6, 'process_c': 3, "
        "'aggregate': '15, 6 and 3'}\n",
    ),
    Case(
        "ETL",
        block=BLOCKS["etl"],
        after='print(list(results))\nprint(results["extract_from_api"], results["send_notification"])\n'
        'print([(row["value"], type(row["timestamp"]).__name__) for row in results["transform_data"]])\n',
        prints=f"""\
['extract_from_api', 'transform_data', 'load_to_database', 'send_notification']
{FETCHED} Notification sent
[(20, 'datetime'), (40, 'datetime')]
""",
        leaves={
            "db": '[[1, 20, "datetime"], [2, 40, "datetime"]]\n',
            "outbox": '"ETL completed: Loaded 2 records"\n',
        },
    ),
    Case(
        "approval of much",
        block=BLOCKS["approval"],
        after="print(results)\nprint(results.skipped)\n",
        files={"size": "1500"},
        prints="""\
Large dataset (3000) - manual approval required
Loading 3000 with MANUAL_APPROVAL
{'extract': 1500, 'transform': 3000, 'require_manual_approval': 'MANUAL_APPROVAL', 'load': 'LOADED_MANUAL_APPROVAL'}
{'auto_approve': 'its condition was false'}
""",
    ),
    Case(
        "approval of little",
        block=BLOCKS["approval"],
        after="print(results)\nprint(results.skipped)\n",
        files={"size": "1000"},
        prints="""\
Small dataset (2000) - auto-approved
Loading 2000 with AUTO_APPROVED
{'extract': 1000, 'transform': 2000, 'auto_approve': 'AUTO_APPROVED', 'load': 'LOADED_AUTO_APPROVED'}
{'require_manual_approval': 'its condition was false'}
""",
    ),
    Case(
        "parallel",
        block=BLOCKS["parallel"],
        after="print(results)\n",
        prints="{'fetch_data': range(0, 1000), 'process_batch_1': 55278, 'process_batch_2': 166167, "
        "'process_batch_3': 278055, 'aggregate_results': 'Total: 499500'}\n",
    ),
]

ONE_AFTER_THE_OTHER = Case(
    "one executor after the other",
    block=BLOCKS["quick dag"],
    after='for other in ["thread", "process", "serial", "process", "thread"]:\n'
    "    again = dag.run(executor=other)\n"
    '    print(again["load"], again == results, again)\n',
    prints=QUICK + f"Success True {QUICK}" * 5,
    leaves={"db": "[1, 2, 3]\n" * 6},
)
STATE = Case(
    "state",
    block=BLOCKS["state"],
    after='print(cached == data, state.get("nothing", "default"), Path(".flowkit/state.json").exists())\n',
    prints="True default True\n",
)

# For notebooks only: in a script, workers do not have what is defined after the first run().
AGAIN = [
    Case(
        "the same cell twice",
        before=BLOCKS["quick dag"].replace(".run()", ".run(executor)"),
        block=BLOCKS["quick dag"],
        after='print(results["load"])\n',
        prints=QUICK * 2 + "Success\n",
        leaves={"db": "[1, 2, 3]\n" * 2},
    ),
    Case(
        "a cell that was changed",
        before=BLOCKS["quick flow"].replace(".run()", ".run(executor)"),
        block=BLOCKS["quick flow"].replace("fetch_data()", "[9, 8]"),
        after="print(pipeline.run(executor))\n",
        prints=QUICK + "{'extract': [9, 8], 'transform': [8, 9], 'load': 'Success'}\n" * 2,
        leaves={"db": "[1, 2, 3]\n[8, 9]\n[8, 9]\n"},
    ),
    Case(
        "logging",
        block=BLOCKS["logging"],
        after='@task\ndef one():\n    return 1\n\nprint(DAG("logs").run(executor))\n',
        prints="{'one': 1}\n",
    ),
]

SCRIPTS = [*CASES, ONE_AFTER_THE_OTHER, STATE]


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PROMISE), os.environ.get("PYTHONPATH")]))
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return plain | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", **more}


def run_python(*arguments: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment(IPYTHONDIR=str(folder / ".ipython")),  # not in the home folder
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def run_script(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(source, "utf-8")
    done = run_python("script.py", folder=folder)
    assert done.returncode == 0, done.stderr
    return done


def check_script(case: Case, folder: Path, before: str = "") -> None:
    case.prepare(folder)
    done = run_script(before + "\n".join(case.cells("process")), folder)
    assert (done.stdout, done.stderr) == (case.prints, "")
    assert case.left(folder) == case.leaves


def run_session(how: str, executor: str, cases: list[Case], folder: Path, *, module: bool = False) -> str:
    """Run cases in one process, and return its standard error output."""
    start = ["-m", "session"] if module else ["-c", "import session; session.main()"]
    folders = [case.prepare(folder / case.name) for case in cases]
    pairs = [(str(folder), case.cells(executor)) for folder, case in zip(folders, cases, strict=True)]
    done = run_python(*start, how, folder=folder, stdin=json.dumps(pairs))
    *printed, rest = done.stdout.split(f"{END}\n")
    assert (done.returncode, rest) == (0, ""), rest + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    for case, text, place in zip(cases, printed, folders, strict=True):
        assert (case.name, text, case.left(place)) == (case.name, case.prints, case.leaves)
    return done.stderr


# --- the blocks run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_blocks_run_as_scripts(tmp_path: Path, executor: str) -> None:
    """One process runs all of them, each with a module and a folder of its own, to save time."""
    assert run_session("script", executor, SCRIPTS, tmp_path) == ""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", SCRIPTS, ids=lambda case: case.name)
def test_block_runs_as_script_with_processes(tmp_path: Path, case: Case) -> None:
    """One script per block, because workers execute it: no guard, no output twice, no standard error output."""
    check_script(case, tmp_path)


@pytest.mark.parametrize("case", [CASES[0], ONE_AFTER_THE_OTHER], ids=lambda case: case.name)
def test_block_runs_with_processes_where_fork_is_unsafe(tmp_path: Path, case: Case) -> None:
    """A second thread makes a fork unsafe, as on macOS."""
    thread = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    check_script(case, tmp_path, thread)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("shell", SHELLS)
def test_blocks_run_as_notebook_cells(tmp_path: Path, executor: str, shell: str) -> None:
    """All in one session, which redefines names many times; as statements at a prompt, and as whole cells."""
    if executor == "process" and sys.platform != "linux":
        pytest.skip(FORKED)
    run_session(shell, executor, SCRIPTS if shell == "prompt" else [*SCRIPTS, *AGAIN], tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason=FORKED)
def test_blocks_run_at_prompt_whose_main_module_has_a_file(tmp_path: Path) -> None:
    """As at the prompt of Python from 3.13 on: __main__ has a file and a spec, without the typed code."""
    run_session("prompt", "process", [CASES[0], ONE_AFTER_THE_OTHER], tmp_path, module=True)


# --- and have the promised effects ------------------------------------------------------------------------------------


def names_of(block: str, **helpers: object) -> dict[str, Any]:
    """Execute a block in this process, and return the names that it defines."""
    names: dict[str, Any] = {"task": task, "DAG": DAG, **helpers}
    exec(block, names)
    return names


@pytest.mark.parametrize("snippet", BLOCKS["operators"].strip().split("\n\n"), ids=lambda text: text.splitlines()[0])
def test_operators_declare_edges(snippet: str) -> None:
    upstream = {
        "# Linear chain": {"task2": ["task1"], "task3": ["task2"]},
        "# Branching (fan-out)": {"task2": ["task1"], "task3": ["task1"], "task4": ["task1"]},
        "# Merging (fan-in)": {"task3": ["task1", "task2"]},
        "# Complex pipeline": {
            "transform": ["extract"],
            "validate": ["transform"],
            "enrich": ["transform"],
            "load": ["validate", "enrich"],
            "notify": ["load"],
        },
    }[snippet.splitlines()[0]]
    tasks = names_of(snippet, **names_of(SHOWING))
    found = {name: [before.name for before in tasks[name].upstream] for name in NAMES}
    assert {name: names for name, names in found.items() if names} == upstream


def test_retry_waits_are_1_2_4_8_16_seconds_with_jitter() -> None:
    flaky = names_of(BLOCKS["flaky call"])["flaky_api_call"]
    assert flaky.retries == 5
    for retry, seconds in enumerate([1.0, 2.0, 4.0, 8.0, 16.0], 1):
        assert flaky.retry.wait(retry) == seconds
        assert flaky.retry.wait(retry, lambda: 0.0) == pytest.approx(0.9 * seconds)
        assert flaky.retry.wait(retry, lambda: 0.999_999_999) == pytest.approx(1.1 * seconds)


def test_retry_jitter_is_random() -> None:
    def refuse() -> None:
        raise ConnectionError

    events: list[Any] = []
    DAG("jitter", tasks=[Task(refuse, retries=20, delay=1e-6, backoff=1.0)]).run(
        "serial", raise_on_failure=False, observers=[events.append]
    )
    delays = [event.delay for event in events if isinstance(event, TaskRetrying)]
    assert len(delays) == 20
    assert len(set(delays)) > 1
    assert all(0.9e-6 <= delay <= 1.1e-6 for delay in delays)


@pytest.mark.parametrize("value", [999, 1000, 1001, 1500])
def test_branch_with_false_condition_is_skipped(value: int) -> None:
    names = names_of(BLOCKS["conditional"].replace("1500", str(value)))
    results = DAG("conditional", tasks=[names["handle_large_data"], names["handle_small_data"]]).run()
    size = "large" if value > 1000 else "small"
    assert results == {"check_data": value, f"handle_{size}_data": f"Processing {size} dataset: {value}"}


def test_picture_has_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = names_of(BLOCKS["user pipeline"])
    flow_picture = names["pipeline"].visualize()
    assert isinstance(flow_picture, str)
    assert all(name in flow_picture for name in ["fetch_user", "fetch_orders", "fetch_recommendations", "combine"])
    names = names_of(SHOWING + BLOCKS["operators"])
    dag_picture = DAG("operators", tasks=[names[name] for name in NAMES]).visualize()
    assert all(name in dag_picture for name in NAMES)


def test_run_without_executor_uses_threads() -> None:
    events: list[Any] = []
    DAG("default", tasks=[Task(str, name="one")]).run(observers=[events.append])
    assert [event.executor for event in events if isinstance(event, RunStarted)] == ["thread"]


def test_state_block_stores_value_with_ttl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"rows": [3, 1, 2], "source": ("api", 7)}
    names = names_of(BLOCKS["state"], data=data)
    state = names["state"]
    assert names["cached"] == data
    assert type(names["cached"]["source"]) is tuple
    assert state.default_ttl == 3600
    assert [path.name for path in (tmp_path / ".flowkit").glob("*.json")] == ["state.json"]
    assert StateManager(storage_path=".flowkit/state.json").get("task_result") == data


@pytest.mark.parametrize("path", [None, "state.json", "state.db"])
def test_state_manager_methods(tmp_path: Path, path: str | None) -> None:
    now = 0.0
    place = None if path is None else str(tmp_path / path)
    state = StateManager(place, 3600, clock=lambda: now)
    assert state.set("one", 1) is None  # type: ignore[func-returns-value]
    assert state.set("two", [2], 10, {"from": "test"}) is None  # type: ignore[func-returns-value]
    assert (state.get("one"), state.get("none"), state.get("none", "default")) == (1, None, "default")
    assert (state.has("one"), state.has("none")) == (True, False)
    assert state.get_all() == {"one": 1, "two": [2]}
    now = 11.0
    assert state.get_all() == {"one": 1}
    assert (state.delete("one"), state.delete("one")) == (True, False)
    state.set("three", 3)
    now = 3700.0
    assert not state.has("three")
    state.set("four", 4)
    state.clear()
    assert state.get_all() == {}


# --- logs -------------------------------------------------------------------------------------------------------

COLORS, JSON = BLOCKS["logging"].split("\n# Or JSON")
FETCHING = """
from flowkit import get_logger

def fetch():
    log = get_logger()
    log.info("Resolving endpoint api.data-provider.com")
    log.info("Connection established. Handshake successful.")
    log.warning("Response latency higher than expected (450ms).")
    for _ in log.progress("Streaming data chunks", range(5)):
        pass
    log.info("Received %s records.", f"{14_502:,}")
    log.info("Validating schema integrity...")
    log.debug("Details.")
    log.success("Task completed successfully. Output size: 45MB.")
    log.system("Worker released.")

def broken():
    get_logger().error("This was an error.")
    raise ValueError("boom")

task(name="Fetch Data (API)")(fetch)
task()(broken).with_options(name="Broken")
DAG("logs", max_workers=1).run(executor, fail_fast=False, raise_on_failure=False)
"""
TIME = re.compile(r"^\d\d:\d\d:\d\d  ")
COLOR_OF = {"DEBUG": "2", "INFO": "34", "WARN": "33", "ERROR": "31", "SUCCESS": "32", "SYSTEM": "35"}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_log_lines_of_sample_in_order_with_colors(tmp_path: Path, executor: str) -> None:
    """The lines of the sample are printed in order, in the promised colors; DEBUG lines are not."""
    start = f"from flowkit import DAG, task\nexecutor = {executor!r}\n"
    done = run_script(start + COLORS + FETCHING, tmp_path)
    levels = []
    lines = []
    for line in done.stderr.splitlines():
        parts = re.fullmatch(r"\x1b\[2m(\d\d:\d\d:\d\d)\x1b\[0m  \x1b\[(\d+)m\[([A-Z]+)\]\x1b\[0m (.*)", line)
        assert parts, line
        time, color, level, message = parts.groups()
        assert color == COLOR_OF[level]
        levels.append(level)
        lines.append(f"{time}  [{level}] {message}")
    assert set(levels) == {"INFO", "WARN", "ERROR", "SUCCESS", "SYSTEM"}
    assert all(TIME.match(line) for line in lines)
    sample = [TIME.sub("", line) for line in BLOCKS["log lines"].splitlines()]
    printed = iter([TIME.sub("", line) for line in lines])
    assert [line for line in sample if line not in printed] == []
    assert done.stdout == ""


@pytest.mark.parametrize("executor", EXECUTORS)
def test_json_lines_replace_text_lines(tmp_path: Path, executor: str) -> None:
    """The second call of configure_logging() in the block replaces the first: JSON lines, from DEBUG on."""
    start = f"from flowkit import DAG, task\nexecutor = {executor!r}\n"
    done = run_script(start + BLOCKS["logging"] + FETCHING, tmp_path)
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert {record["level"] for record in records} == {level.name for level in LogLevel}
    by_message = {record["message"]: record for record in records}
    assert by_message["Details."]["level"] == "DEBUG"
    assert by_message['Starting task "Fetch Data (API)"...']["task"] == "Fetch Data (API)"
    assert done.stdout == ""


def test_log_levels_are_six() -> None:
    assert {level.name for level in LogLevel} == {"DEBUG", "INFO", "WARNING", "ERROR", "SUCCESS", "SYSTEM"}
