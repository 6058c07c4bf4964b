"""CPU threads of a learner rank: those of the plan for the stage, and never 0."""

import pytest
import torch

from actors.cluster.env import learner_env, packed_env, thread_env
from actors.learner.rank import LearnerRank
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import InvariantError
from bard_ray.learn.spec import LossSpec


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "sft_threads", "kind", "expected"),
    [
        (3, 5, "nll", 5),
        (3, 5, "grpo", 3),
        (3, 0, "nll", 3),
        (0, 0, "nll", 1),
        (0, 0, "grpo", 1),
    ],
)
def test_a_step_uses_the_threads_of_its_stage(threads, sft_threads, kind, expected):
    rank = LearnerRank(0, 1, LearnerConfig(threads=threads, sft_threads=sft_threads), seed=0)
    torch.set_num_threads(2)
    with pytest.raises(InvariantError, match="at least one trained token"):  # after they are set
        rank.step([], LossSpec(kind), 1e-3, 0, 1)
    assert torch.get_num_threads() == expected


def test_a_process_gets_at_least_one_thread():
    assert thread_env(0)["OMP_NUM_THREADS"] == "1"
    assert thread_env(4)["OMP_NUM_THREADS"] == "4"


def test_learner_and_reference_keep_few_matrix_kernels():
    """oneDNN and its wrapper keep a kernel for each shape, and packed rows have ever new ones."""
    assert packed_env() == {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32", "LRU_CACHE_CAPACITY": "32"}
    assert packed_env().items() <= learner_env(on_gpu=False, loopback=True).items()
