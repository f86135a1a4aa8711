"""The time limit of programs in tests."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_time_limit_of_programs_shows_where_a_program_hangs(script):
    program = script("import time\nprint('here', flush=True) or time.sleep(3600)\n")
    program.wait_for_output("here")  # faulthandler is enabled now
    with pytest.raises(pytest.fail.Exception, match="it hung") as caught:
        program.wait(seconds=0.5)
    assert 'script.py", line 2' in str(caught.value)
