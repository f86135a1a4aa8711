"""Runs tasks in worker processes.

The process that calls ``run()`` starts workers and drives them from one thread. Each worker has its own connections, so
that a worker which dies affects no other. This is how they look with the POSIX transport; `transports` explains the
other one::

                         calling process                                              worker process

                     +---------------------+   socket: RUN, FUNCTION, BATCH frames   +-----------------+
                     |                     | --------------------------------------> |                 |
    ready nodes ---> | CallSender          | <-------------------------------------- |                 |
                     |                     |   the same socket: file descriptors     |     Worker      |
                     |                     |   of large arguments and results        |                 |
                     |                     |                                         | reads a ticket, |
                     | WorkerHandle        |   ticket pipe: one ticket per call      | makes the call, |
                     |                     | --------------------------------------> | sends the       |
                     |                     |   (either side may read a ticket)       | outcome         |
                     |                     |                                         |                 |
                     |                     |   outcomes pipe: VALUE, ERROR, LOG ...  |                 |
    outcomes    <--- | OutcomeReader       | <-------------------------------------- |                 |
                     |                     |                                         |                 |
                     |                     |   lifeline pipe: nothing is written;    |                 |
                     |                     |   it closes when this process ends      | kills its group |
                     +---------------------+ --------------------------------------> +-----------------+

Modules, from the entry point down:

* `executor`: `ProcessExecutor`, its options and warm workers.
* `lane`: the event loop of one run. `schedule`: which nodes are ready or sent ahead. `batch_policy`: how many calls a
  worker is given ahead. `batching`: nodes -> frames. `outcome_reader`: frames -> outcomes.
  `blocks`: the same for blocks of elements of mapped tasks.
* `workers`: the worker processes, as the calling process sees them: the calls that each holds, and their options.
* `transports`: how a worker is started, how frames, tickets and large values are exchanged with it, how its death is
  noticed, and how it is ended. What differs between operating systems is there.
* `surroundings`: current folder, import path and environment of the calling process, which workers take on.
* `worker`: the main loop in the worker process. `worker_exit`: how it ends. `protocol`: the frames between both.
* `functions`: how functions are sent, and the main script in a worker. `random_numbers`: each worker draws its own.
* `shared_memory`: large values. `task_context`: contexts of tasks. `exception_transport`, `log_forwarding`,
  `warning_forwarding`: exceptions, log records and warnings of tasks. `serialization_errors`: messages.
"""
