"""The learner rank as a Ray actor: node address, wire format of a step, publishing weights."""

from __future__ import annotations

from actors.cluster.wire import SequenceColumns, unpack_sequences
from actors.learner.rank import LearnerRank
from actors.weights.flat_buffer import FlatWeights
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import InvariantError
from bard_ray.learn.spec import LossSpec


class LearnerActor(LearnerRank):
    """A `LearnerRank` with the node's address and the object store's formats."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        config: LearnerConfig,
        seed: int,
        loopback: bool,
        trust_remote_code: bool = False,
    ) -> None:
        """Set up the rank; `loopback`: all ranks run on this machine and use only 127.0.0.1."""
        super().__init__(rank, world_size, config, seed, trust_remote_code)
        self._loopback = loopback

    def rendezvous(self) -> tuple[str, int]:
        """Rank 0: open the process group's rendezvous on an address the other ranks can reach."""
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
        """`step` on this rank's share of the sequences, in wire format."""
        return self.step(unpack_sequences(columns), loss, lr, global_tokens, num_micro_batches)

    def publish(self, dtype: str) -> tuple[tuple[tuple[str, ...], int], FlatWeights]:
        """Rank 0: parameter names and gathered bytes, and the weights themselves.

        Called with `num_returns=2`: the driver fetches the first result and forwards a reference
        to the second.
        """
        flat = self.gather(dtype)
        if flat is None:
            msg = "only rank 0 publishes weights"
            raise InvariantError(msg)
        return (flat.names, flat.buffer.nbytes), flat
