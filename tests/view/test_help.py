"""Help, version, completion, and the ways to start the command."""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
import subprocess
import sys

import pytest

BASH = shutil.which("bash")
COMMANDS = [
    "run",
    "graph",
    "check",
    "plan",
    "rerun",
    "replay",
    "runs",
    "show",
    "why",
    "logs",
    "diff",
    "watch",
    "serve",
    "report",
    "gc",
    "completion",
]


def test_help_lists_commands(flowkit):
    answer = flowkit("--help")
    assert answer.code == 0
    assert [command for command in COMMANDS if f"\n    {command}" not in answer.out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_command_has_example_and_json(flowkit, command):
    answer = flowkit(command, "--help")
    assert answer.code == 0
    assert f"example:\n  flowkit {command} " in answer.out
    assert ("--json" in answer.out) == (command != "completion")


def test_version_is_that_of_the_distribution(flowkit):
    answer = flowkit("--version")
    assert answer.out.split()[0] == "flowkit-view"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_has_all_commands(flowkit, shell):
    answer = flowkit("completion", shell)
    assert answer.code == 0
    assert all(command in answer.out for command in COMMANDS)
    assert "supervise" in answer.out


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "state_COMPGEN=_shtab_compgen_files"),
        ("zsh", ":_files"),
        ("fish", "(__fish_complete_path (commandline -ct))"),
        ("tcsh", "/--state/f/"),
    ],
)
def test_completion_completes_names_of_files(flowkit, shell, line):
    assert line in flowkit("completion", shell).out


@pytest.mark.skipif(BASH is None, reason="platform: there is no bash")
@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["sh"], ["show"]),
        (["re"], ["rerun", "replay", "report"]),
        (["run", "--superv"], ["--supervise"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes_commands_and_options(folder, flowkit, words, answers):
    (folder / "flowkit.bash").write_text(flowkit("completion", "bash").out)
    line = shlex.join(["flowkit", *words])
    script = (
        f"source flowkit.bash; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_flowkit; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run([BASH, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.split()) == sorted(answers)


@pytest.mark.parametrize("module", ["flowkit", "flowkit_view"])
def test_module_is_the_command(etl, module):
    done = subprocess.run(
        [sys.executable, "-m", module, "graph", "etl:dag"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("etl: 3 tasks")


def test_console_script_is_declared():
    points = importlib.metadata.entry_points(group="console_scripts", name="flowkit")
    for point in points:
        assert point.value == "flowkit_view.command_line.main:main"


def test_output_to_closed_pipe_is_no_error(recorded):
    command = f"import sys; from flowkit_view import main; sys.exit(main(['show', {recorded!r}, '--json']))"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)
