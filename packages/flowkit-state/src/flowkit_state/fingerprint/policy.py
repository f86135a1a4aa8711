"""Class `Policy`: how strictly a fingerprint compares values, and the policies that are used."""

from __future__ import annotations


class Policy:
    """How a fingerprint treats values without comparable content, and values that change.

    Attributes:
        accepts_opaque: whether a value without comparable content counts by its type, instead of being refused.
        snapshot_mutable: whether lists and objects count as they were at their first fingerprint in this process.
        records_misses: whether values that count by their type alone are recorded.
        refuses_process_state: whether what gives access to state of the process, such as a context variable, is a value
            without comparable content; else it counts by its type or its name.
        data_only: whether objects that may be handles, such as instances of a class that is not a dataclass, are
            refused although their attributes can be compared.
    """

    __slots__ = ("accepts_opaque", "data_only", "records_misses", "refuses_process_state", "snapshot_mutable")

    def __init__(
        self,
        *,
        accepts_opaque: bool = False,
        snapshot_mutable: bool = False,
        records_misses: bool = False,
        data_only: bool = False,
        refuses_process_state: bool = True,
    ) -> None:
        self.accepts_opaque = accepts_opaque
        self.snapshot_mutable = snapshot_mutable
        self.records_misses = records_misses
        self.data_only = data_only
        self.refuses_process_state = refuses_process_state


PARAMETERS = Policy(refuses_process_state=False)
"""For code in the parameters of a run, which identify it."""

INPUTS = Policy(data_only=True)
"""For the arguments of a call."""

CONSTANTS = Policy()
"""For the values that code reads."""

VERSIONED = Policy(accepts_opaque=True)
"""For the values that code reads, if the user gives a version for those that cannot be compared."""

RECORDED = Policy(accepts_opaque=True, snapshot_mutable=True, records_misses=True, refuses_process_state=False)
"""For the values that code reads, if runs in two processes are compared: what the program changes does not count."""
