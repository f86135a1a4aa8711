"""Class `Flow`: a pipeline that is built by chained calls, stage by stage.

>>> from flowkit_core import task
>>> from flowkit_flow import Flow
>>> @task
... def extract(): return [3, 1, 2]
>>> @task
... def transform(extract): return sorted(extract)
>>> Flow("etl").add(extract).add(transform).run("serial")
{'extract': [3, 1, 2], 'transform': [1, 2, 3]}
"""

from ._flow import Flow

__all__ = ["Flow"]
