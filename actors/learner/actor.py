"""What an actor hosts of the learner: a rank, plus what only an actor can know or do."""

from __future__ import annotations

from actors.cluster.wire import SequenceColumns, unpack_sequences
from actors.learner.rank import LearnerRank
from actors.weights.flat_buffer import FlatWeights
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import InvariantError
from bard_ray.learn.spec import LossSpec


class LearnerActor(LearnerRank):
    """A learner rank that knows its node's address and what travels through the object store."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        config: LearnerConfig,
        seed: int,
        loopback: bool,
        trust_remote_code: bool = False,
    ) -> None:
        """`loopback`: all ranks live on this machine, so nothing is bound beyond it."""
        super().__init__(rank, world_size, config, seed, trust_remote_code)
        self._loopback = loopback

    def rendezvous(self) -> tuple[str, int]:
        """Rank 0: open the group's rendezvous where the other ranks can reach it."""
        if self._loopback:
            return self.rendezvous_address()
        import ray.util

        return self.rendezvous_address(ray.util.get_node_ip_address())

    def step_columns(
        self,
        columns: SequenceColumns,
        loss: LossSpec,
        lr: float,
        global_tokens: int,
        num_micro_batches: int,
    ) -> dict[str, float]:
        """`step` over this rank's share, as it came over the wire."""
        return self.step(unpack_sequences(columns), loss, lr, global_tokens, num_micro_batches)

    def publish(self, dtype: str) -> tuple[tuple[tuple[str, ...], int], FlatWeights]:
        """Rank 0: what was gathered, and the weights themselves.

        Called with two returns, so they part ways.
        """
        flat = self.gather(dtype)
        if flat is None:
            msg = "only rank 0 publishes weights"
            raise InvariantError(msg)
        return (flat.names, flat.buffer.nbytes), flat
