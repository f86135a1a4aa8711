"""The report of a run: one HTML file that needs no network.

* `run_model`: what a report shows of a run, whatever it was made from.
* `from_record`: a model of a recorded run. `record_report`: writes the report of it. `observer`: a model of a run that
  is observed, and its report. `elements`: the elements of mapped tasks in both models.
* `schedule`: critical path, slack, and the duration that a number of workers would need.
* `cpu`: whether tasks in threads have waited for each other.
* `timeline`, `graph_picture`: the two drawings, as SVG.
* `page`: the HTML page. Its template, style and script are the files beside these modules.
"""
