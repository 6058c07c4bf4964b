"""The admission window: it bounds policy lag without ever dropping a slow group.

The window has (max_lag + 1) x prompts_per_step slots. A group takes a slot when it is admitted and
keeps it until the weights trained on it have been published; a group that has no reward variance or
failed releases it at once. Groups are trained on in the order of admission.

The bound. Let P be `prompts_per_step`. When a group is admitted under version v, steps 0 to v - 1
are done and published. At most (max_lag + 1) P - 1 other groups hold a slot at that moment, and no
group without a slot will ever be trained on, so at most that many are trained on before it. Each
step trains on P, in order, so the group is trained on in step v + max_lag at the latest, and

    lag = step it is trained in - version it was admitted under <= max_lag      [optimizer steps]

Weights are transferred while the learner continues, so step v may be done as well, its version
v + 1 not yet published. Then its P groups hold slots but have been trained on already, at most
max_lag P - 1 others are trained on before this one, and its step is v + 1 + max_lag - 1 at the
latest: the same bound. Tokens sampled after an in-flight weight update are newer than the
admission, so the bound holds for them too.

Over-sampling adds E slots so that zero-variance groups leave no gap in a batch. Then more than
(max_lag + 1) P - 1 trainable groups may precede a group: it could not be trained on within the
bound and is *surplus* (`is_surplus`). This depends only on the groups admitted before it, never on
its own length or duration, so discarding it is not biased by length. With E = 0 no group is
surplus.

Worked example: P = 4, max_lag = 1, so 8 slots. Groups 0-7 enter under version 0. Step 0 trains on
0-3, publishes version 1 and frees 4 slots: groups 8-11 enter under version 1. Step 1 trains on 4-7,
sampled under version 0: lag 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bard_ray.errors import InvariantError


@dataclass(frozen=True, slots=True)
class LagWindow:
    """The two numbers that determine the lag bound."""

    max_lag: int  # optimizer steps
    prompts_per_step: int


@dataclass
class Ledger:
    """Counts of what became of the admitted groups.

    `admitted = trained + failed + zero variance + surplus + in flight` at every step.
    """

    admitted: int = 0
    trained: int = 0
    failed: int = 0
    zero_variance: int = 0
    surplus: int = 0

    @property
    def consumed(self) -> int:
        """Groups that have left the window; a resumed run starts at this admission number."""
        return self.trained + self.failed + self.zero_variance + self.surplus

    def check(self, in_flight: int) -> None:
        """Compare the counters with an independent count of what is in flight.

        Raises:
            InvariantError: a group was lost or counted twice.
        """
        if self.admitted != self.consumed + in_flight:
            msg = (
                f"admission does not balance: admitted {self.admitted} != trained {self.trained}"
                f" + failed {self.failed} + zero variance {self.zero_variance}"
                f" + surplus {self.surplus} + in flight {in_flight}"
            )
            raise InvariantError(msg)


@dataclass
class AdmissionWindow:
    """Gives out admission numbers while slots are free; O(1) per group.

    Attributes:
        slots: size of the window, groups.
        next_number: admission number of the next group; a resumed run starts after the consumed
            ones.
        free: slots that are not in use.
    """

    slots: int
    next_number: int = 0
    free: int = field(init=False)

    def __post_init__(self) -> None:
        self.free = self.slots

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self.slots - self.free

    def take(self, wanted: int) -> range:
        """Take slots for the next groups: as many as are free, at most `wanted`."""
        numbers = range(self.next_number, self.next_number + max(0, min(self.free, wanted)))
        self.next_number, self.free = numbers.stop, self.free - len(numbers)
        return numbers

    def release(self, count: int) -> None:
        """Release slots.

        Raises:
            InvariantError: more were released than taken.
        """
        self.free += count
        if self.free > self.slots:
            msg = f"{self.free} free slots in a window of {self.slots}"
            raise InvariantError(msg)


def window_slots(max_lag: int, prompts_per_step: int, oversample: float = 0.0) -> int:
    """Slots of the window: (max_lag + 1) P plus `oversample` P, rounded up. Source: ours."""
    return (max_lag + 1) * prompts_per_step + math.ceil(oversample * prompts_per_step)


def is_surplus(
    next_step: int, trainable_before: int, admitted_under: int, window: LagWindow
) -> bool:
    """True where a group cannot be trained on within the lag bound.

    Args:
        next_step: index of the next step; also the number of steps done.
        trainable_before: groups admitted earlier, known to be trainable and not yet trained on.
        admitted_under: steps whose weights had been published when the group was admitted.
        window: P and max_lag.

    Returns:
        True where the earliest step that could train on the group, next_step +
        floor(trainable_before / P), is later than admitted_under + max_lag. Source: ours.
    """
    earliest_step = next_step + trainable_before // window.prompts_per_step
    return earliest_step > admitted_under + window.max_lag
