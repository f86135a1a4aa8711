"""Simulation: runs of a pipeline in virtual time, with an order and faults that a seed decides.

* `simulate`: the functions that users call. `simulation`: what they return. `faults`: what can be injected.
* `traced_run`: a run that writes a history. `lane`: workers that make calls in virtual time. `clock`: that time.
  `handles`: results that stay on a simulated executor.
* `history`: the records of a run, and a drawing of them. `checker`: checks a history against the rules of runs, with a
  model of the elements of mapped tasks, `map_checker`. `limit_checker`: the rules of pools. `results_checker`: results.
  `reference`: a plain evaluation to compare with.
* `virtual_time`: an executor that runs a pipeline as usual, and waits in virtual time. `virtual_loop`: an event loop in
  that time. `async_lane`: the async tasks of that executor.
* `stand_ins`: recorded results of a run in place of its tasks.
* `verify_resume`: crashes a real run at every point at which it is recorded, and resumes it.
"""
