"""What an actor hosts of the learner: a rank, plus the two things only an actor can know or do."""

from __future__ import annotations

from actors.engine import FlatWeights
from actors.learner import LearnerRank
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import InvariantError


class LearnerActor(LearnerRank):
    """A learner rank that knows its node's address and hands weights to the object store."""

    def __init__(
        self, rank: int, world_size: int, config: LearnerConfig, seed: int, loopback: bool
    ) -> None:
        """`loopback`: all ranks live on this machine, so nothing is bound beyond it."""
        super().__init__(rank, world_size, config, seed)
        self._loopback = loopback

    def rendezvous(self) -> tuple[str, int]:
        """Rank 0: open the group's rendezvous where the other ranks can reach it."""
        if self._loopback:
            return self.rendezvous_address()
        import ray.util

        return self.rendezvous_address(ray.util.get_node_ip_address())

    def publish(self, dtype: str) -> tuple[tuple[tuple[str, ...], int], FlatWeights]:
        """Rank 0: what was gathered, and the weights themselves.

        Called with two returns, so they part ways.
        """
        flat = self.gather(dtype)
        if flat is None:
            msg = "only rank 0 publishes weights"
            raise InvariantError(msg)
        return (flat.names, flat.buffer.nbytes), flat
