"""Limits: how many tasks run at once, or start in a period, by the pools that they name.

* `rate`: the class that users write in ``run(pools={"api": Rate(10)})``.
* `definitions`: checks of the option ``pool`` of tasks, and of the argument ``pools`` of runs. `errors`: exceptions.
* `admission`: which of the jobs that wait may start. `limited_run`: a run that uses it.
* `ranked_queue`: ready nodes in order of their rank.
"""
