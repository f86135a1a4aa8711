"""One run of a pipeline.

* `running`: the options of a run; runs a graph in the calling thread.
* `hooks`: calls the hooks of tasks and of the pipeline in one run, and checks these options.
* `async_running`: runs a graph for a coroutine.
* `forbidden_runs`: refuses runs while a module is imported.
"""
