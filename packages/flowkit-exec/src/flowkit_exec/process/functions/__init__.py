"""How the functions of tasks get to worker processes.

* `function_references`: a function by reference, by value, or by a fork.
* `function_table`: the functions of one run.
* `main_module`, `main_module_analysis`: the main script in a worker.
* `missing_globals`: errors of functions that lack a global in a worker.
* `changed_globals`: warnings of globals that have another value there.
"""
