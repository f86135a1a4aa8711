"""Execution of a graph: the state machine of one run, what it records, and how its calls are made.

* `run`: what executors call: which nodes are ready, and their calls. `outcomes`: what the end of an attempt does to the
  run: final states, retries, stops. `triggers`: whether a node runs after its upstreams. `run_state`, `states`: values
  and states by node. `run_report`: the error that the run raises.
* `arguments`: the arguments of a call. `call`: a call, its outcome, or a retry. `handle`: a value that stays elsewhere.
* `session`: drives a run over the lanes of its executors. `serial_lane`: the calling thread as a lane. `worker`: makes
  the calls in one thread. `time_limit`: calls with a timeout, in threads of their own. `timers`: nodes that wait for a
  retry, and running calls with a timeout. `wake_up`: an event that one thread waits for.
* `event_emitter`: passes events to observers. `recorder`: the record of the run in a store, and the caches of its
  tasks. `facts`: the facts about their run that the contexts of tasks keep.
"""
