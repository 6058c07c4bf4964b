"""The admission window: what bounds policy lag without ever dropping a slow group.

A window of (max_lag + 1) x prompts_per_step slots. A group takes a slot when it is asked for and
gives it back when it has been trained on (or was found flat or failed). Groups are trained in the
order in which they were admitted.

The bound. Number groups 0, 1, 2, ... in admission order and let P be `prompts_per_step`. Group n
enters only when at most (max_lag + 1) P - 1 earlier ones still hold a slot, so at least n + 1 -
(max_lag + 1) P were given back; those given back by training came P a step, each step published
before its slots were freed. Group n is trained in step n // P (not counting flat and failed groups,
which shift both sides alike), so

    lag(n) = n // P - version at admission(n) <= max_lag        [optimizer steps]

Worked example: P = 4, max_lag = 1, so 8 slots. Groups 0-7 enter under version 0. Step 0 trains on
0-3, publishes version 1 and frees 4 slots: groups 8-11 enter under version 1. Step 1 trains on 4-7,
sampled under version 0: lag 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bard_ray.errors import InvariantError


@dataclass
class Ledger:
    """Where every admitted group went; `admitted = trained + failed + flat + in flight` at every
    step.
    """

    admitted: int = 0
    trained: int = 0
    failed: int = 0
    flat: int = 0

    @property
    def consumed(self) -> int:
        """Groups that have left the window; the next restart asks for the one with this number."""
        return self.trained + self.failed + self.flat

    def check(self, in_flight: int) -> None:
        """Compare the counters with an independent count of what is in flight.

        Raises:
            InvariantError: a group was lost or counted twice.
        """
        if self.admitted != self.consumed + in_flight:
            msg = (
                f"admission does not balance: admitted {self.admitted} != trained {self.trained} + failed {self.failed}"
                f" + flat {self.flat} + in flight {in_flight}"
            )
            raise InvariantError(msg)


@dataclass
class AdmissionWindow:
    """Hands out admission numbers while slots are free. O(1) a group.

    Attributes:
        slots: size of the window, groups.
        next_number: admission number of the next group; a resumed run starts where the consumed
            ones end.
    """

    slots: int
    next_number: int = 0
    free: int = field(init=False)

    def __post_init__(self) -> None:
        self.free = self.slots

    def take(self, wanted: int) -> range:
        """The next numbers that may be admitted now, at most `wanted` of them."""
        numbers = range(self.next_number, self.next_number + max(0, min(self.free, wanted)))
        self.next_number, self.free = numbers.stop, self.free - len(numbers)
        return numbers

    def release(self, count: int) -> None:
        """Give slots back.

        Raises:
            InvariantError: more were given back than taken.
        """
        self.free += count
        if self.free > self.slots:
            msg = f"{self.free} free slots in a window of {self.slots}"
            raise InvariantError(msg)


def window_slots(max_lag: int, prompts_per_step: int) -> int:
    """Slots of the window: (max_lag + 1) x prompts_per_step. Source: ours."""
    return (max_lag + 1) * prompts_per_step
