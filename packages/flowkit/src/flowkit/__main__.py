"""`python -m flowkit`: the command line of `flowkit_view`, if that is installed."""

from __future__ import annotations

import sys


def main() -> int:
    """Call the command, and return its exit code: 2 if it is not installed."""
    try:
        from flowkit_view.command_line.main import main as command
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("flowkit_view", "jinja2", "rich", "shtab"):
            raise
        sys.stderr.write(
            f"flowkit: the command line needs the distribution 'flowkit-view', but there is no module {error.name!r}: "
            "install it with pip install ./packages/flowkit-view in a checkout of flowkit\n"
        )
        return 2
    return command()


if __name__ == "__main__":
    sys.exit(main())
