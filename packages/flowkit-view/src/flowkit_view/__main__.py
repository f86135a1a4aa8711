"""`python -m flowkit_view`: the command `flowkit`."""

from __future__ import annotations

import sys

from flowkit_view.command_line.main import main

sys.exit(main())
