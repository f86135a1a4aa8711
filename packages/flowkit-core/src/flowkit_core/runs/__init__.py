"""Execution of a graph: the state machine of one run, what it records, and how its calls are made.

* `run`: what executors call: which nodes are ready, and their calls. `outcomes`: what the end of an attempt does to the
  run: final states, retries, stops. `triggers`: whether a node runs after its upstreams. `run_state`, `states`: values
  and states by node. `run_report`: the error that the run raises.
* `arguments`: the arguments of a call. `call`: a call, its outcome, or a retry. `handle`: a value that stays elsewhere.
  `kept_results`: the results that a run returns, and when it drops the others.
* `session`: drives a run over the lanes of its executors. `serial_lane`: the calling thread as a lane. `worker`: makes
  the calls in one thread. `time_limit`: calls with a timeout, in threads of their own. `timers`: nodes that wait for a
  retry, and running calls with a timeout. `wake_up`: an event that one thread waits for.
* `mapping`: mapped tasks and their elements. `limits`: pools, rates and priorities. `event_loop`: async tasks.
* `recording`: the record of the run in a store, and the caches of its tasks.
* `event_emitter`: passes events to observers. `facts`: the facts about their run that the contexts of tasks keep.
* `context_transfer`, `exception_transport`: contexts and exceptions of calls in other processes.
"""
