"""What pipelines do with the records of earlier runs.

* `run_plan`: what a run would do, and why.
* `rerun`: how a run is started from a recorded one.
* `reports`: has `flowkit_view` write a report of a run, or show its progress.
* `replay`: calls one task of a recorded run again.
"""
