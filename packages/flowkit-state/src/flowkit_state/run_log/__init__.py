"""The record of pipeline runs in a database.

* `resume`: begins the record of a run, or resumes that of the last run.
* `journal`: writes the record of a run, task by task.
* `plan`: tasks, edges and code of a pipeline, and how two plans differ.
* `queries`: reads and deletes the records.
"""
