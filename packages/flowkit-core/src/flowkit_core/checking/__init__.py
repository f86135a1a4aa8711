"""Problems and open parameters of a pipeline: what ``Pipeline.check()`` and ``Pipeline.parameters`` return.

* `problem`: one problem. `check`: all problems of a pipeline.
* `annotations`, `reachability`, `options`: rules that only ``check()`` has, because no run needs them.
* `parameters`: open parameters.
"""

from .check import check_pipeline
from .parameters import REQUIRED, OpenParameter, open_parameters
from .problem import Problem

__all__ = ["REQUIRED", "OpenParameter", "Problem", "check_pipeline", "open_parameters"]
