"""Results that cannot be sent from another process fail their task, say what to do, and are not tried again."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import map_functions
import pytest

from flowkit_core import DAG, SerializationError, Task
from flowkit_exec import FuturesExecutor, ProcessExecutor


@pytest.fixture(scope="module", params=["process", "portable", "pool"])
def executor(request):
    if request.param == "pool":
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, FuturesExecutor(pool) as executor:
            yield executor
    else:
        transport = {"transport": "portable"} if request.param == "portable" else {}
        with ProcessExecutor(1, **transport) as executor:
            yield executor


@pytest.mark.parametrize("is_mapped", [False, True])
def test_result_that_cannot_be_sent_fails_its_task_without_a_retry(executor, tmp_path, is_mapped):
    task = Task(partial(map_functions.function_of, str(tmp_path)), name="each", retries=3, delay=0)
    dag = DAG("sweep", tasks=[task.map("x") if is_mapped else task])
    with pytest.raises(SerializationError, match=r"its result .* return plain data") as raised:
        dag.run(executor, params={"x": [1] if is_mapped else 1})
    assert raised.value.task == ("each[0]" if is_mapped else "each")
    assert raised.value.what == "result"
    assert map_functions.number_of_calls(tmp_path) == 1


def test_generator_that_a_plain_function_returns_says_how_to_write_it(executor):
    source, each = Task(map_functions.generator_expression, name="rows"), Task(map_functions.add_one, name="each")
    source >> each.map()
    with pytest.raises(SerializationError, match=r"write the task as a generator function \(with yield\)"):
        DAG("sweep", tasks=[each]).run(executor)
