"""The record of pipeline runs in a database.

* `resume`: begins the record of a run, or resumes that of the last run with the same parameters. `linked_run`: begins
  that of a run which takes over results of another one.
* `parameters`: parameters of a run as they are stored, and the identity that they give the run.
* `journal`: writes the record of a run, task by task. `error_text`: exceptions as they are recorded.
* `elements`: writes the record of the elements of mapped tasks, and finds those that a resumed run takes over.
* `plan`: tasks, edges and code of a pipeline, and how two plans differ. `diff`: how two runs differ.
* `queries`: reads and deletes the records. `elements_view`: reads the elements of mapped tasks.
"""
