"""The record of pipeline runs in a database.

* `resume`: begins the record of a run, or resumes that of the last run with the same parameters.
* `parameters`: parameters of a run as they are stored, and the identity that they give the run.
* `journal`: writes the record of a run, task by task.
* `plan`: tasks, edges and code of a pipeline, and how two plans differ.
* `queries`: reads and deletes the records.
"""
