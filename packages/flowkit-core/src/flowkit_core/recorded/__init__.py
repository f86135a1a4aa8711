"""The records of runs: what of a run is kept there, and what pipelines do with the records of earlier runs.

* `run_plan`: what a run would do, and why.
* `rerun`: how a run is started from a recorded one.
* `reports`: has `flowkit_view` write a report of a run, or show its progress.
* `replay`: calls one task of a recorded run again.
* `origin`: the module and the name under which the command line finds the pipeline of a run.
* `log_lines`: the log lines of a run, which are committed to its record.
"""
