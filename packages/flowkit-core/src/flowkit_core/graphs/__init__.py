"""Graphs: the checked tasks of a pipeline in topological order, with the parameters of each bound to results.

* `graph`: builds the graph from tasks and edges: order, cycles, duplicate names. `node`: one task of it. `inlining`:
  tasks of pipelines that are used as tasks.
* `parameters`: what a function takes. `binding`: which result becomes which parameter. `node_map`: which of them a task
  is mapped over. `map_errors`: exceptions of mapped tasks.
* `open_parameters`: parameters that ``run(params=...)`` fills. `ignored_defaults`: defaults of a loop that upstreams
  replace. `advice`: texts of warnings and errors about parameters.
* `gc_disabled`: building many objects without the garbage collector.
"""
