"""Mapping: the elements of mapped nodes in one run.

* `inputs`: the elements of values that tasks are mapped over. `stage`: the elements of one node, with their states.
* `region`: a chain of mapped nodes whose elements run one after the other. `element`: one element as a job of a lane.
* `mapped_run`: what a run does with mapped nodes and their elements.
* `elements`: what results have of the elements.
"""
