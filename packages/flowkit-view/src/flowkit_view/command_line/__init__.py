"""The command `flowkit`.

* `main`: parses the arguments, calls the command, and returns the exit code. `exit_codes`: their meanings.
* `parser`: the commands and their options.
* `pipeline_commands`: what takes a pipeline of the user: `run`, `graph`, `check`, `plan`, `rerun`, `replay`.
* `record_commands`: what reads recorded runs: `runs`, `show`, `why`, `diff`, `watch`, `serve`,
  `report`, `gc`.
* `log_commands`: what reads the log of a run: `logs`.
* `supervise`: runs a command in a process that is started again after a crash.
* `targets`: finds the pipeline that `module:name` denotes.
* `parameters`: converts the text of `-p name=value`.
* `selection`: opens the file of recorded runs, and finds the run that an argument denotes.
* `output`: tables, plain text and JSON.
* `usage_error`: the exception for wrong arguments.
"""
