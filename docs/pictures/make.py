"""Make the pictures of the documentation: run the pipeline of `shops.py`, and draw what flowkit-view shows of it.

    python3 noxfile.py -s pictures

Each picture is real output. Only the name of this machine and the temporary folder in it are replaced, by `HOST` and
`FOLDER`. Chromium has to be installed, because it draws the report.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pexpect
import pyte
from PIL import Image, ImageChops
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "pages" / "images"
HOST, FOLDER = "laptop", "/home/ada/shops"
COLUMNS, ROWS = 100, 60  # of the terminal
HEIGHT, SCALE = 1600, 1.5  # of the window of the browser, in CSS pixels, and pixels for each of them
MARGIN = 20  # below the report, in pixels
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FONTS = "ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace"
PYTE_COLORS = {"default": None, "brown": "yellow"}
"""Names of colors that are different in pyte and in Rich."""


class Terminal:
    """A terminal that runs `flowkit` in a folder.

    Args:
        folder: the folder of the pipeline.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, arguments: str, until: str | None = None) -> pyte.Screen:
        """Run a command, and return the screen when it has ended.

        Args:
            arguments: what follows `flowkit`, separated by spaces.
            until: a regular expression; the screen is returned as soon as it has matching text.
        """
        left_out = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
        env = {name: value for name, value in os.environ.items() if name not in left_out} | {"TERM": "xterm-256color"}
        command = ["-m", "flowkit_view", *arguments.split()]
        child = pexpect.spawn(
            sys.executable, command, cwd=str(self.folder), env=env, dimensions=(ROWS, COLUMNS), encoding="utf-8"
        )
        screen, output = pyte.Screen(COLUMNS, ROWS), ""
        try:
            while True:
                output += child.read_nonblocking(65536, timeout=60)
                # All of it is drawn again, because a name that is replaced may be split between two reads.
                screen.reset()
                pyte.Stream(screen).feed(self._hide_machine(output))
                if until is not None and re.search(until, "\n".join(screen.display)):
                    return screen
        except pexpect.EOF:
            if until is not None:
                sys.exit(f"flowkit {arguments} printed nothing that matches {until}:\n" + "\n".join(screen.display))
        finally:
            child.close(force=True)
        return screen

    def picture(self, name: str, arguments: str, until: str | None = None) -> None:
        """Run a command, and write a picture of the screen."""
        screen = self.run(arguments, until)
        lines = [text_of(screen, row) for row in range(ROWS)]
        while lines and not lines[-1].plain.strip():
            lines.pop()
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="standard")
        console.print(Text(f"$ flowkit {arguments}", style="bold"))
        for line in lines:
            console.print(line, no_wrap=True, overflow="crop")
        console.print()  # Rich clips what is below the baseline of the last line
        svg = console.export_svg(title="", unique_id=name)
        # Fonts of the reader's system: a picture loads nothing.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", FONTS)
        (IMAGES / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", "utf-8")

    def _hide_machine(self, text: str) -> str:
        return text.replace(str(self.folder), FOLDER).replace(f" on {socket.gethostname()}", f" on {HOST}")


def text_of(screen: pyte.Screen, row: int) -> Text:
    """Return a row of a screen."""
    text = Text()
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        color = PYTE_COLORS.get(cell.fg, cell.fg)
        text.append(cell.data, f"{'bold ' if cell.bold else ''}{color or ''}".strip())
    text.rstrip()
    return text


def picture_report(folder: Path, name: str, leave_out: tuple[str, ...], width: int) -> None:
    """Write a picture of a part of a report.

    Args:
        folder: the folder with the file `report.html`.
        name: name of the picture.
        leave_out: the sections that are not in the picture.
        width: the width of the window of the browser, in CSS pixels.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"a picture of the report needs one of {', '.join(BROWSERS)}; install it")
    page = (folder / "report.html").read_text("utf-8")
    for section in leave_out:
        page, count = re.subn(rf'<section aria-labelledby="{section}">.*?</section>', "", page, flags=re.DOTALL)
        if not count:
            sys.exit(f"the report has no section {section!r}")
    page = re.sub("<footer.*?</footer>", "", page, flags=re.DOTALL)
    page = page.replace(str(folder), FOLDER)
    (folder / "page.html").write_text(page, "utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = [f"--window-size={width},{HEIGHT}", f"--force-device-scale-factor={SCALE}"]
    paths = [f"--user-data-dir={folder / 'browser'}", f"--screenshot={folder / 'page.png'}"]
    command = [browser, *options, *size, *paths, (folder / "page.html").as_uri()]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    with Image.open(folder / "page.png") as image:
        shot = image.convert("RGB")
    background = Image.new("RGB", shot.size, shot.getpixel((0, shot.height - 1)))
    *_, bottom = ImageChops.difference(shot, background).getbbox() or shot.getbbox()
    if bottom + MARGIN >= shot.height:
        sys.exit(f"the report is higher than {HEIGHT} pixels; change HEIGHT")
    cropped = shot.crop((0, 0, shot.width, bottom + MARGIN))
    cropped.quantize(128, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def main() -> None:
    """Run the pipeline on two days, and make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "shops")
        folder.mkdir()
        source = (HERE / "shops.py").read_text("utf-8")
        (folder / "shops.py").write_text(source, "utf-8")
        terminal = Terminal(folder)

        terminal.run("graph shops:dag -o graph.svg")
        shutil.copy(folder / "graph.svg", IMAGES / "graph.svg")
        terminal.run("run shops:dag --state runs.db -p day=2026-11-28 --keep-going")
        # Between the runs, a constant is edited.
        (folder / "shops.py").write_text(source.replace("WEEKS = 4", "WEEKS = 6"), "utf-8")
        terminal.run("run shops:dag --state runs.db -p day=2026-11-29 --keep-going")
        terminal.picture("show", "show runs.db")
        terminal.picture("why", "why runs.db")
        terminal.picture("diff", "diff runs.db last~1 last")
        terminal.run("report runs.db last -o report.html")
        picture_report(folder, "report", ("mapped", "tasks", "facts"), width=1000)
        picture_report(folder, "run", ("failures", "path", "mapped", "tasks", "facts"), width=950)
        terminal.picture("progress", "run shops:dag -p day=2026-11-29 --watch", until=r"\(1[5-9] of 24\)")
    for path in sorted(IMAGES.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
