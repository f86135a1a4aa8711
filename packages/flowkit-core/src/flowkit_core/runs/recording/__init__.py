"""The record of a run in a store.

* `recorder`: class `RunRecorder` commits the outcomes of tasks and elements, and looks up cached results.
* `identity`: what identifies the function of a task, and a value that is elsewhere.
* `options`: checks the options of ``run()`` that concern the record, and opens the store that they name.
"""
