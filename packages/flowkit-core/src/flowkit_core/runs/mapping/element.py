"""Classes `Element` and `Block`: one element of a mapped node, or several, as a job of a lane."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.node import Node

if TYPE_CHECKING:
    from flowkit_core._typing import Any
    from flowkit_core.runs.call import Retry

    from .region import Region
    from .stage import Stage


class Element(Node):
    """One element of a mapped node. Lanes treat it as a node: its attributes are those of the mapped node.

    Attributes:
        name: name of the task and number of the element: ``"parse[3]"``.
        element: number of the element, its position in the original input.
        region: the chain of mapped nodes that it is part of.
        stage: the elements of its node.
        given: the mapped value, or a tuple of several; see `Stage`.
        input_facts: what is recorded of them, from before the first call; None if that is not known.
        shown: its mapped value as messages show it, if an attempt has failed.
        later: a retry that the lane has not got yet.
    """

    __slots__ = ("element", "given", "input_facts", "later", "region", "shown", "stage")

    element: int

    def __init__(self, region: Region, stage: Stage, element: int, given: Any) -> None:
        node = stage.node
        self.index = node.index
        self.task = node.task
        self.func = node.func
        self.name = f"{node.name}[{element}]"
        self.is_simple = False
        self.element = element
        self.given = given
        self.input_facts: tuple[Any, str | None] | None = None
        self.region = region
        self.shown = ""
        self.stage = stage
        self.later: Retry | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, attribute):
            """Return an attribute of the mapped node."""
            if attribute == "stage":
                raise AttributeError(attribute)
            return getattr(self.stage.node, attribute)


class Block(Element):
    """Several elements with consecutive numbers of a region whose functions may be called in a loop.

    Attributes:
        element: number of the first element.
        given: list of the mapped values, or of tuples of several.
        is_ended: whether its elements have ended, or are other jobs now.
    """

    __slots__ = ("downstream", "is_ended")

    def __init__(self, region: Region, stage: Stage, element: int, given: list[Any]) -> None:
        super().__init__(region, stage, element, given)
        self.downstream = ()  # its result is not the result of a node
        self.is_ended = False


def job_of(region: Region, stage: Stage, number: int, given: list[Any]) -> Element:
    """Return the job of elements with consecutive numbers: an element, or a block of several."""
    return Element(region, stage, number, given[0]) if len(given) == 1 else Block(region, stage, number, given)
