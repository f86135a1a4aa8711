"""Mapping: the elements of mapped nodes in one run.

* `inputs`: the elements of values that tasks are mapped over. `opening`: reads them, and finds chains of mapped nodes.
* `region`: such a chain, whose elements run one after the other. `region_input`: its mapped inputs, whose elements are
  each taken once. `stage`: the elements of one node, with their states.
* `puller`: threads that pull the elements of lazy inputs, such as generators. `iterator_results`: the tasks that have
  returned these inputs, and when they end.
* `element`: one element as a job of a lane, or a block of several. `block_calls`: makes the calls of a block.
* `mapped_run`: what a run does with mapped nodes and their elements. `interface`: what others use of that.
  `mapped_loop`: workers that pull elements.
* `element_records`: records elements as they end, and takes over those of a run that is resumed.
* `span`: when the first element of a node has started, and the last one has ended.
* `elements`: the elements in the results of a run.
"""
