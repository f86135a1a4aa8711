"""Pipelines: tasks, how they are wired, which of them a pipeline has, and the graph that a run starts from.

* `task`: the decorator and the class. `options`: names, defaults and checks of the options. `option_attributes`: the
  options of a task. `direct_calls`: a task that is called like a function. `callables`: what can become a task.
* `wiring`: the operators. `edges`: where edges are stored. `edge_view`: the edges that apply to one pipeline.
* `pipeline`: running and drawing. `dag`: a pipeline of wired tasks. `pipeline_task`: a pipeline as a task of another
  one. `discovery`: the tasks and edges of a DAG. `discovery_warnings`: texts of warnings about it.
* `execution`: one run of a pipeline. `run_observers`: its observers.
* `scopes`: the call, module or block that a task belongs to. `calls`: the scope of a call, and when the call has ended.
  `frames`, `generators`, `exception_tables`, `source_text`: what frames and code objects tell about a call.
"""
