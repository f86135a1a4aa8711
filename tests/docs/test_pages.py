"""Run the code blocks of the README and the pages, and compare their output with what is shown.

The python blocks of a page are one script, in order, run in an empty folder; a comment on the line before a block,
<!-- new script -->, begins another. What a block prints is compared where the page shows it: in the next block, fenced
as ```text title="Output". There a line that is ``...`` stands for any lines, and times of day, durations and addresses
match any others. A python block that is not run has a comment before it that says why: <!-- not run: no server -->.

A block fenced as ```python title="steps.py" is a file beside the script, which may import it. If its name begins with
test_, pytest runs it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md")), *sorted(ROOT.glob("docs/pages/**/*.md"))]
SOURCES = [path for path in sorted(ROOT.glob("packages/*/src/**/*.py")) if "```python" in path.read_text("utf-8")]
SECONDS = 120
MARK = "--- the end of a block ---"

FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,}|~{3,}) *(?P<language>[\w+-]*) *(?P<rest>.*)")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
NEW_SCRIPT = "<!-- new script -->"
FILE = re.compile(r'title="(\w+\.py)"')
VOLATILE = [
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "00:00:00"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms)\b"), "0 s"),
    (re.compile(r"\b0x[0-9a-f]+\b"), "0x0"),
]


@dataclass
class Block:
    """One fenced block: the number of its first line, its kind and its lines."""

    line: int
    language: str
    rest: str
    indent: int
    before: str
    lines: list[str] = field(default_factory=list)

    @property
    def file(self) -> str | None:
        """The name of the file, if the block is a file."""
        match = FILE.fullmatch(self.rest) if self.language == "python" else None
        return match and match[1]

    @property
    def runs(self) -> bool:
        return self.language == "python" and not self.file and not NOT_RUN.fullmatch(self.before)

    @property
    def is_output(self) -> bool:
        return self.language == "text" and self.rest == 'title="Output"'


def read_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page; a fence ends at one of the same length, kind and indentation."""
    blocks: list[Block] = []
    closing = before = ""
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            if line.rstrip() == closing:
                closing = before = ""
            else:
                blocks[-1].lines.append(line[blocks[-1].indent :])
        elif match := FENCE.fullmatch(line.rstrip()):
            closing = match["indent"] + match["ticks"]
            blocks.append(Block(number + 1, match["language"], match["rest"], len(match["indent"]), before))
        elif line.strip():
            before = line.strip()
    assert not closing, f"the block at line {blocks[-1].line} is never closed"
    return blocks


def split_scripts(blocks: list[Block]) -> list[list[Block]]:
    """Split the blocks of a page into scripts, each with the outputs that are shown for it."""
    scripts: list[list[Block]] = [[]]
    for block in blocks:
        if block.before == NEW_SCRIPT:
            scripts.append([])
        scripts[-1].append(block)
    return scripts


def to_source(blocks: list[Block]) -> str:
    """Put each block on the lines that it has in the page, so that tracebacks have the line numbers of the page."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        lines += [*block.lines, f"print({MARK!r}, flush=True)"]
    return "\n".join(lines) + "\n"


def matches(shown: str, printed: str) -> bool:
    """Return whether a shown output matches the printed one."""
    for volatile, stand_in in VOLATILE:
        shown, printed = volatile.sub(stand_in, shown), volatile.sub(stand_in, printed)
    anything = r"(?:.*\n)*?"
    lines = shown.strip("\n").splitlines()
    pattern = "".join(anything if line.strip() == "..." else re.escape(line.rstrip()) + r" *\n" for line in lines)
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_python(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def run_script(page: Path, blocks: list[Block], folder: Path) -> list[str]:
    """Run blocks of a page as one script and return the output of each; fail with line numbers of the page."""
    script = folder / f"{page.stem.lower()}_page.py"  # a page may be called logging
    script.write_text(to_source(blocks), "utf-8")
    run = run_python([script.name], folder)
    *printed, rest = run.stdout.split(f"{MARK}\n")
    if run.returncode or len(printed) != len(blocks):
        at = f"{title(page)}:{blocks[min(len(printed), len(blocks) - 1)].line}"
        message = rest.replace(str(script), title(page)).replace(f'"{script.name}"', f'"{title(page)}"')
        pytest.fail(f"{at}: this block ended the script with code {run.returncode}:\n{message}", pytrace=False)
    return printed


def write_files(page: Path, blocks: list[Block], folder: Path) -> None:
    """Write the files of a script, and run those that contain tests."""
    files = [block for block in blocks if block.file]
    for block in files:
        (folder / str(block.file)).write_text("\n".join(block.lines) + "\n", "utf-8")
    for block in files:
        if str(block.file).startswith("test_"):
            run = run_python(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(block.file)], folder)
            if run.returncode:
                at = f"{title(page)}:{block.line}"
                pytest.fail(f"{at}: pytest ended with code {run.returncode}:\n{run.stdout}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_page_prints_shown_output(page: Path, tmp_path: Path) -> None:
    for number, script in enumerate(split_scripts(read_blocks(page.read_text("utf-8")))):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_files(page, script, folder)
        code = [block for block in script if block.runs]
        printed = iter(run_script(page, code, folder) if code else [])
        since = ""
        for block in script:
            if block.runs:
                since += next(printed)
            elif block.is_output:
                shown, at = "\n".join(block.lines), f"{title(page)}:{block.line}"
                if not matches(shown, since):
                    pytest.fail(f"{at}: the page shows\n\n{shown}\n\nbut its script printed\n\n{since}", pytrace=False)
                since = ""


@pytest.mark.parametrize("source", SOURCES, ids=title)
def test_blocks_in_docstrings_run(source: Path, tmp_path: Path) -> None:
    """Each block is a script of its own, unlike in a page."""
    for number, block in enumerate(read_blocks(source.read_text("utf-8"))):
        if block.runs:
            folder = tmp_path / str(number)
            folder.mkdir()
            run_script(source, [block], folder)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_page_has_known_kinds_of_blocks(page: Path) -> None:
    """A block with a misspelt fence would be neither run nor compared."""
    for block in read_blocks(page.read_text("utf-8")):
        where = f"{title(page)}:{block.line - 1}"
        assert block.language, f"{where}: say the language of the block: python, bash, text ..."
        assert block.language not in {"py", "python3", "Python", "pycon"}, f"{where}: write python, which is run"
        if block.language == "text" and block.rest:
            assert block.is_output, f'{where}: the mark of output is title="Output"'
        if block.before.startswith("<!-- not"):
            assert NOT_RUN.fullmatch(block.before), f"{where}: say why, as in <!-- not run: needs a server -->"
