"""Run nox from an environment in ``.nox/tools``, which is created on first use; ``noxfile.py`` calls this as a script.

The syntax is that of old Pythons too, so that they can print the error message of `main`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

NOX = "nox>=2026.10.20"
UV = "uv>=0.8"


def main(noxfile: str, arguments: list[str]) -> int | str:
    """Run nox and return its exit code, or an error message.

    Args:
        noxfile: path of the noxfile; the environment is created beside it.
        arguments: options for nox. Without any, all default sessions run, one per processor at a time.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - newcomers may call it with an older Python
        version = sys.version.split()[0]
        return f"flowkit needs Python 3.11 or newer, but this is Python {version}: try python3.12 noxfile.py"
    tools = Path(noxfile).resolve().parent / ".nox" / "tools"
    python = str(tools / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    backend = tools / f"backend-on-{sys.version_info.major}.{sys.version_info.minor}"
    if not backend.exists():
        print(f"Installing nox and uv into {tools} (once) ...", flush=True)
        try:
            venv.create(tools, clear=True, with_pip=True)
            backend.write_text(install(python), "utf-8")
        except subprocess.CalledProcessError as error:
            return (
                f"nox could not be installed: {error}\nThis needs the venv module (on Debian and Ubuntu: apt install"
                " python3-venv) and a package index that pip can reach: check both, and try again."
            )
    options = [f"--noxfile={noxfile}", f"--default-venv-backend={backend.read_text('utf-8')}"]
    return subprocess.call([python, "-m", "nox", *options, *(arguments or [f"--parallel={os.cpu_count() or 1}"])])


def install(python: str) -> str:
    """Install nox, and uv if possible; return the backend that nox uses for its environments.

    uv is much faster than pip, but it is not available on every platform, and has settings of its own for the index.
    """
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, NOX], check=True)
    probe = [python, "-m", "uv", "pip", "install", "--dry-run", f"--python={python}", "pytest"]
    for command in [*pip, UV], probe:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            print("uv is not available, or cannot reach the package index: pip is used, more slowly.", flush=True)
            return "virtualenv"
    return "uv"
