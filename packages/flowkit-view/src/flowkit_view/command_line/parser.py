"""Function `make_parser`: the commands of `flowkit` and their options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flowkit_view.texts import version_text

from . import log_commands, pipeline_commands, record_commands

if TYPE_CHECKING:
    from collections.abc import Callable

_STATUSES = ("running", "succeeded", "failed", "interrupted")
SHELLS = ("bash", "zsh", "fish", "tcsh")


class _Commands:
    """Adds commands to a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: Callable[[argparse.Namespace], int], example: str, *, has_json: bool = True
    ) -> argparse.ArgumentParser:
        """Add a command.

        Args:
            name: its name.
            function: called with the options; its docstring is the help.
            example: a command line that the help shows.
            has_json: whether it has the option `--json`.
        """
        summary = (function.__doc__ or "").strip()
        parser = self._subparsers.add_parser(
            name,
            help=summary.rstrip("."),
            description=summary,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(function=function)
        if has_json:
            parser.add_argument("--json", action="store_true", help="print JSON on standard output")
        return parser


def make_parser(completion: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        completion: the command that prints a script for the completion of a shell.
    """
    parser = argparse.ArgumentParser(
        prog="flowkit",
        description="Run pipelines of flowkit, and see what they did.",
        epilog="exit codes: 0 it succeeded, 1 it failed, 2 the arguments are wrong, 130 it was interrupted",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"flowkit-view {version_text()}")
    commands = _Commands(parser)
    _add_pipeline_commands(commands)
    _add_record_commands(commands)
    shells = commands.add(
        "completion",
        completion,
        "flowkit completion bash > ~/.local/share/bash-completion/completions/flowkit",
        has_json=False,
    )
    shells.add_argument("shell", choices=SHELLS)
    return parser


def _add_pipeline_commands(commands: _Commands) -> None:
    run = commands.add("run", pipeline_commands.run, "flowkit run etl:dag -p date=2026-11-29 --state runs.db --resume")
    _add_target(run)
    _add_params(run)
    _add_file(run.add_argument("--state", metavar="FILE", help="record the run in this file, such as runs.db"))
    run.add_argument("--resume", action="store_true", help="continue the last run of the same parameters")
    _add_run_options(run)
    run.add_argument("--supervise", action="store_true", help="start again with --resume when the process crashes")
    run.add_argument("--max-restarts", type=_count, default=5, metavar="N", help="restarts of --supervise (default: 5)")
    run.add_argument(
        "--backoff",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="wait before the first restart; doubles with each one, up to a minute (default: 1)",
    )

    graph = commands.add("graph", pipeline_commands.graph, "flowkit graph etl:dag -o etl.svg")
    _add_target(graph)
    _add_file(
        graph.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            help="write a file: .svg or .html for a picture, .mmd for Mermaid, .dot or .gv for Graphviz, .txt for text",
        )
    )

    check = commands.add("check", pipeline_commands.check, "flowkit check etl:dag --executor process")
    _add_target(check)
    _add_params(check)
    check.add_argument("-e", "--executor", metavar="NAME", help="also check what this executor requires")

    plan = commands.add("plan", pipeline_commands.plan, "flowkit plan etl:dag runs.db -p date=2026-11-29")
    _add_target(plan)
    _add_records(plan)
    _add_params(plan)

    rerun = commands.add("rerun", pipeline_commands.rerun, "flowkit rerun runs.db last --from transform")
    _add_records(rerun)
    _add_run(rerun, required=True)
    rerun.add_argument(
        "--from",
        dest="tasks",
        metavar="TASK",
        action="append",
        required=True,
        help="run this task, or pipeline used as a task, again, with everything downstream; may be repeated",
    )
    _add_recorded_target(rerun)
    _add_params(rerun)
    _add_run_options(rerun)

    replay = commands.add("replay", pipeline_commands.replay, "flowkit replay runs.db last load --pdb")
    _add_records(replay)
    _add_run(replay, required=True)
    replay.add_argument("task", metavar="TASK", help="name of the task, or of an element: 'parse[3]'")
    _add_recorded_target(replay)
    replay.add_argument("--pdb", action="store_true", help="start the debugger where the task fails")


def _add_record_commands(commands: _Commands) -> None:
    runs = commands.add("runs", record_commands.runs, "flowkit runs runs.db --failed --since 7d")
    _add_records(runs)
    _add_pipeline(runs)
    statuses = runs.add_mutually_exclusive_group()
    statuses.add_argument("--failed", action="store_true", help="only runs that failed or were interrupted")
    statuses.add_argument(
        "--status", action="append", choices=_STATUSES, help="only runs of this status; may be repeated"
    )
    runs.add_argument("--since", metavar="WHEN", help="only runs since then: 7d, 12h, or a date such as 2026-11-29")
    runs.add_argument("--limit", type=_count, default=20, metavar="N", help="maximum number (default: 20; 0: all)")

    show = commands.add("show", record_commands.show, "flowkit show runs.db last")
    _add_records(show)
    _add_run(show)
    _add_pipeline(show)
    show.add_argument("--all", action="store_true", help="print all tasks, however many they are")

    why = commands.add("why", record_commands.why, "flowkit why runs.db load")
    _add_records(why)
    why.add_argument(
        "task",
        metavar="TASK",
        nargs="?",
        help="name of the task, or of an element: 'parse[3]' (default: all that failed)",
    )
    _add_run(why)
    _add_pipeline(why)

    logs = commands.add("logs", log_commands.logs, "flowkit logs runs.db last load --level warning")
    _add_records(logs)
    _add_run(logs)
    logs.add_argument(
        "task", metavar="TASK", nargs="?", help="name of the task, or of an element: 'parse[3]' (default: all)"
    )
    _add_pipeline(logs)
    logs.add_argument(
        "--level", default="debug", metavar="LEVEL", help="debug, info, warning, error, or a number (default: debug)"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="print further lines until the run ends")

    diff = commands.add("diff", record_commands.diff, "flowkit diff runs.db last~1 last")
    _add_records(diff)
    _add_run(diff, default="last~1")
    diff.add_argument(
        "other", metavar="RUN", nargs="?", default="last", help="the run to compare it with (default: last)"
    )
    _add_pipeline(diff)

    watch = commands.add("watch", record_commands.watch, "flowkit watch runs.db last")
    _add_records(watch)
    _add_run(watch)
    _add_pipeline(watch)

    serve = commands.add("serve", record_commands.serve, "flowkit serve runs.db --port 8765")
    _add_records(serve)
    serve.add_argument("--port", type=_port, default=8765, metavar="PORT", help="default: 8765; 0: any free port")

    report = commands.add("report", record_commands.report, "flowkit report runs.db last -o run.html")
    _add_records(report)
    _add_run(report)
    _add_pipeline(report)
    _add_file(report.add_argument("-o", "--output", metavar="FILE", help="the file, such as run.html"))

    gc = commands.add("gc", record_commands.gc, "flowkit gc runs.db --keep 30 --older-than 90d")
    _add_records(gc)
    gc.add_argument("--keep", type=_count, metavar="N", help="finished runs of each pipeline to keep")
    gc.add_argument("--older-than", metavar="AGE", help="delete runs and cached results older than this, as in 90d")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="MODULE:NAME", help="the pipeline, as in etl:dag; etl if there is one; or etl.py:dag"
    )
    _add_path(parser)


def _add_recorded_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="MODULE:NAME", help="the pipeline of the run (default: the recorded one)")
    parser.add_argument("--path", metavar="FOLDER", help="where the module is (default: the recorded folder)")


def _add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", metavar="FOLDER", help="where the module is (default: the current folder)")


def _add_params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter of the run, converted by its annotation; TASK.NAME=VALUE for one task",
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-e", "--executor", metavar="NAME", help="serial, thread, process or another installed one")
    parser.add_argument("-w", "--max-workers", type=_positive, metavar="N", help="maximum number of workers")
    parser.add_argument("--max-async", type=_positive, metavar="N", help="maximum number of coroutines at a time")
    parser.add_argument(
        "--pool",
        dest="pools",
        type=_pool,
        metavar="NAME=SLOTS",
        action="append",
        help="number of slots of a pool; may be repeated",
    )
    parser.add_argument(
        "-k", "--keep-going", action="store_true", help="after a failure, go on with tasks that do not depend on it"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="seconds that the run may take")
    _add_file(parser.add_argument("--report", metavar="FILE", help="write a report of the run, such as run.html"))
    parser.add_argument("--watch", action="store_true", help="show the progress of the run on standard error")
    quiet = "do not log, and print no failures while the run goes on"
    parser.add_argument("-q", "--quiet", action="store_true", help=quiet)


def _add_records(parser: argparse.ArgumentParser) -> None:
    _add_file(parser.add_argument("state", metavar="FILE", help="the file of the recorded runs, such as runs.db"))


def _add_run(parser: argparse.ArgumentParser, *, required: bool = False, default: str = "last") -> None:
    text = "id of the run, or its first characters; last; last~1 is the run before that"
    if required:
        parser.add_argument("run", metavar="RUN", help=text)
    else:
        parser.add_argument("run", metavar="RUN", nargs="?", default=default, help=f"{text} (default: {default})")


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", metavar="NAME", help="only runs of this pipeline")


def _add_file(action: argparse.Action) -> None:
    """Let shells complete an argument with names of files."""
    completed: Any = action
    fish = "(__fish_complete_path (commandline -ct))"
    completed.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "fish": fish, "tcsh": "f"}


def _count(text: str) -> int:
    return _number(text, 0)


def _positive(text: str) -> int:
    return _number(text, 1)


def _pool(text: str) -> tuple[str, int]:
    name, equals, slots = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SLOTS, such as db=2")
    return name, _number(slots, 1)


def _port(text: str) -> int:
    port = _number(text, 0)
    if port > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number of at most 65535")
    return port


def _number(text: str, least: int) -> int:
    number = int(text) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
    return number


def _seconds(text: str) -> float:
    from .parameters import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
