"""Learner ranks against a plain torch loop. Ranks are processes without Ray, one per rank for the
whole module.

A process runs every scenario of its group in turn and sends back plain numbers; the tests judge
those.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.learner.deepspeed_engine import remove_shared_memory
from actors.learner.rank import LearnerRank
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import ConfigError, InvariantError, RunStateError
from bard_ray.learn.pack import PackSpec, plan_step
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.metrics import TABLE
from bard_ray.records import TrainSequence
from tests.custom_code import FILES as CODE
from tests.custom_code import write_custom_model

pytestmark = pytest.mark.engines

VOCAB = 64
LR = 3e-3
NLL = LossSpec("nll")
GRPO = LossSpec("grpo", kl_coef=0.1)
OPTIM = OptimSpec(betas=(0.9, 0.95), weight_decay=0.1, grad_clip=0.5)
BASE = LearnerConfig(
    precision="float32", attention="eager", pack_len=64, micro_tokens=128, call_timeout_s=60.0
)
STAGES = (0, 1, 2, 3)

Weights = dict[str, np.ndarray]
Trace = tuple[list[dict[str, float]], Weights]


def sequences(kind: str = "nll", count: int = 9) -> list[TrainSequence]:
    """Very uneven lengths, so that ranks and micro-batches hold different token counts."""
    rng = np.random.default_rng(5)
    out = []
    for length in [60, 58, 7, 31, 9, 12, 44, 5, 23][:count]:
        floats = [rng.normal(size=length).astype(np.float32) for _ in range(3)]
        plain = TrainSequence(
            rng.integers(0, VOCAB, length).astype(np.int32), np.arange(length) >= 3
        )
        ours = replace(
            plain,
            advantages_T=floats[0],
            behavior_T=floats[1] * 0.3 - 4.2,
            reference_T=floats[2] * 0.3 - 4.2,
            budget_bin=2 * (length > 30),
        )
        out.append(ours if kind == "grpo" else plain)
    return out


# ---------------------------------------------------------------------- inside a rank's process


class Rank:
    """One rank of one group, with the few lines the driver would have."""

    def __init__(
        self, rank: int, world_size: int, address: Callable[[LearnerRank], tuple[str, int]]
    ) -> None:
        self.rank, self.world_size, self.address = rank, world_size, address
        self.learner = LearnerRank(rank, world_size, BASE, seed=0)

    def start(self, config: LearnerConfig, trust_remote_code: bool = False) -> LearnerRank:
        self.learner.close()
        self.config = replace(config, ranks=self.world_size)
        self.learner = LearnerRank(self.rank, self.world_size, self.config, 0, trust_remote_code)
        self.learner.connect(*self.address(self.learner))
        return self.learner

    def step(self, kind: str = "nll", count: int = 9) -> dict[str, float]:
        given = sequences(kind, count)
        spec = PackSpec.of(self.config.pack_len, self.config.micro_tokens, self.config.attention)
        plan = plan_step([s.tokens_T.size for s in given], self.world_size, spec)
        trained = sum(int(s.mask_T.sum()) for s in given)
        mine = [given[i] for i in plan.shares[self.rank]]
        return self.learner.step(
            mine, NLL if kind == "nll" else GRPO, LR, trained, plan.num_micro_batches
        )

    def steps(self, num: int, kind: str = "nll", count: int = 9) -> Trace:
        return [self.step(kind, count) for _ in range(num)], self.weights()

    def weights(self, dtype: str = "float32") -> Weights:
        flat = self.learner.gather(dtype)
        if flat is None:
            return {}
        kind = np.dtype(np.float32 if dtype == "float32" else np.uint16)
        out = {}
        for name, shape, offset in zip(flat.names, flat.shapes, flat.offsets, strict=True):
            part = flat.buffer[offset : offset + int(np.prod(shape)) * kind.itemsize]
            out[name] = part.view(kind).reshape(shape).copy()
        return out


def raised(call: Callable[[], object]) -> str:
    try:
        call()
    except (InvariantError, RunStateError, ConfigError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def traces(rank: Rank, model: str, stages: tuple[int, ...]) -> dict[str, Any]:
    """Three steps under every ZeRO stage, both losses, and a step in which a rank may have nothing
    to do.
    """
    out: dict[str, Any] = {}
    for stage in stages:
        for kind in ("nll", "grpo"):
            rank.start(replace(BASE, zero_stage=stage)).begin(model, OPTIM)
            out[f"{kind}{stage}"] = rank.steps(3, kind)
        rank.learner.begin(model, OPTIM)
        out[f"one{stage}"] = rank.steps(1, count=1)
    return out


def chunked(rank: Rank, model: str) -> Trace:
    """Three steps under ZeRO-3 whose logits exist for 16 tokens at a time only."""
    rank.start(replace(BASE, zero_stage=3)).begin(model, OPTIM)
    rank.learner._engine.module.model.get_output_embeddings().chunk_tokens = 16
    return rank.steps(3, "grpo")


def single_micro_batch(rank: Rank, model: str) -> Trace:
    rank.start(replace(BASE, zero_stage=2, micro_tokens=4096)).begin(model, OPTIM)
    return rank.steps(3)


def resumed(rank: Rank, model: str, work: Path, config: LearnerConfig) -> dict[str, Any]:
    """Two steps, saved; two more; and the same two in a new process group from the saved state."""
    stage = config.zero_stage
    state = str(work / f"state-{stage}-{config.precision}")
    rank.start(config).begin(model, OPTIM)
    rank.steps(2)
    rank.learner.save(state)
    out: dict[str, Any] = {"on": rank.steps(2)}
    rank.start(config).restore(state, OPTIM)
    out["again"] = rank.steps(2)
    rank.learner.restore(state, OPTIM)  # over a running engine
    out["in_place"] = rank.steps(2)
    rank.learner.export(str(work / "restored"))
    out["files"] = sorted(file.name for file in (work / "restored").iterdir())
    other = replace(config, zero_stage=1 if stage != 1 else 2)
    out["other_kind"] = raised(lambda: rank.start(other).restore(state, OPTIM))
    out["no_state"] = raised(lambda: rank.learner.restore(model, OPTIM))
    return out


def next_stage(rank: Rank, model: str, work: Path, config: LearnerConfig) -> dict[str, Any]:
    """A second stage from the weights just exported: in place, and rebuilt from the files."""
    exported = str(work / f"next-{config.zero_stage}-{config.precision}")
    other = OptimSpec(betas=(0.8, 0.9), weight_decay=0.0, grad_clip=0.1)
    learner = rank.start(config)
    out: dict[str, Any] = {"first_read": learner.begin(model, OPTIM)}
    rank.steps(2)
    learner.export(exported)
    out["in_place_read"] = learner.begin(exported, other)
    out["in_place"] = rank.steps(2)
    out["moved_on_read"] = learner.begin(exported, other)
    out["reread"] = rank.steps(2)
    rank.start(config).begin(exported, other)
    out["rebuilt"] = rank.steps(2)
    return out


def exported(rank: Rank, model: str, work: Path) -> dict[str, Any]:
    """An export, what transformers makes of it, and the weights it was made of."""
    import torch
    from transformers import AutoModelForCausalLM

    path = str(work / "export")
    rank.start(replace(BASE, zero_stage=3)).begin(model, OPTIM)
    rank.steps(2)
    rank.learner.export(path)
    rank.learner.export(path)  # replaces what is there
    weights = rank.weights()
    half = rank.weights("bfloat16")
    rank.learner.close()
    tokens = torch.arange(20)[None] % VOCAB
    reloaded = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    original = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
    original.load_state_dict(
        {name: torch.from_numpy(value) for name, value in weights.items()}, strict=False
    )
    rounded = {
        n: torch.from_numpy(v).bfloat16().view(torch.uint16).numpy() for n, v in weights.items()
    }
    return {
        "logits": (
            reloaded(tokens).logits.detach().numpy(),
            original(tokens).logits.detach().numpy(),
        ),
        "halves_agree": all(np.array_equal(half[name], rounded[name]) for name in rounded),
        "dtype": str(reloaded.dtype),
        "files": sorted(file.name for file in Path(path).iterdir()),
        "beside": sorted(entry.name for entry in work.glob("export*")),
    }


def refused(rank: Rank, model: str) -> dict[str, str]:
    learner = rank.start(BASE)
    learner.begin(model, OPTIM)
    nll, grpo = sequences(), sequences("grpo")
    trained = sum(int(s.mask_T.sum()) for s in nll)
    no_reference = [replace(s, reference_T=None) for s in grpo]
    return {
        "tokens": raised(lambda: learner.step(nll, NLL, LR, trained + 1, 9)),
        "none": raised(lambda: learner.step([], NLL, LR, 0, 1)),
        "advantages": raised(lambda: learner.step(nll, GRPO, LR, trained, 9)),
        "reference": raised(lambda: learner.step(no_reference, GRPO, LR, trained, 9)),
        "precision": raised(
            lambda: rank.start(replace(BASE, zero_stage=0, precision="bfloat16")).begin(
                model, OPTIM
            )
        ),
    }


def custom_code(rank: Rank, model: str, work: Path) -> dict[str, Any]:
    """A model whose classes are Python files of its directory: refused, and trained if trusted."""
    from transformers import AutoModelForCausalLM

    own = write_custom_model(model, work / "own")
    out: dict[str, Any] = {}
    for stage in (0, 3):
        config, state = replace(BASE, zero_stage=stage), str(work / f"own-state-{stage}")
        path = str(work / f"own-export-{stage}")
        learner = rank.start(config)
        out[f"refused{stage}"] = raised(partial(learner.begin, own, OPTIM))
        rank.start(config, trust_remote_code=True).begin(own, OPTIM)
        rank.steps(2)
        rank.learner.save(state)
        rank.start(config, trust_remote_code=True).restore(state, OPTIM)
        trace = rank.steps(1)
        rank.learner.export(path)
        rank.learner.close()
        again = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
        weights = {name: p.detach().numpy() for name, p in again.named_parameters()}
        out[f"trained{stage}"] = trace[0], weights
        out[f"kind{stage}"] = type(again).__name__
        out[f"files{stage}"] = {file.name for file in Path(path).glob("*.py")}
    return out


def partitioned_buffers(rank: Rank, model: str) -> tuple[Weights, Weights]:
    """Non-trained tensors of the same bfloat16 model, built partitioned and built whole."""

    def buffers(stage: int) -> Weights:
        learner = rank.start(replace(BASE, zero_stage=stage, precision="bfloat16"))
        learner.begin(model, OPTIM)
        return {name: b.double().numpy() for name, b in learner._engine.module.named_buffers()}

    return buffers(3), buffers(2)


def lone_rank(rank: Rank, model: str, work: Path) -> dict[str, Any]:
    half = replace(BASE, zero_stage=2, precision="bfloat16")
    return {
        **traces(rank, model, STAGES),
        "single_micro_batch": single_micro_batch(rank, model),
        **{
            f"resumed{stage}": resumed(rank, model, work, replace(BASE, zero_stage=stage))
            for stage in STAGES
        },
        **{
            f"next{stage}": next_stage(rank, model, work, replace(BASE, zero_stage=stage))
            for stage in STAGES
        },
        "resumed_half2": resumed(rank, model, work, half),
        "next_half2": next_stage(rank, model, work, half),
        "next_half3": next_stage(rank, model, work, replace(half, zero_stage=3)),
        "exported": exported(rank, model, work),
        "buffers": partitioned_buffers(rank, model),
        "refused": refused(rank, model),
        "custom_code": custom_code(rank, model, work),
    }


def pair_of_ranks(rank: Rank, model: str, work: Path) -> dict[str, Any]:
    return {
        **traces(rank, model, (0, 2, 3)),
        "chunked": chunked(rank, model),
        "resumed3": resumed(rank, model, work, replace(BASE, zero_stage=3)),
        "next2": next_stage(rank, model, work, replace(BASE, zero_stage=2)),
    }


def rank_process(rank: int, world_size: int, model: str, work: str, pipe: Connection) -> None:
    """Entry of a rank's process; the parent relays rank 0's rendezvous addresses."""
    os.environ.update(
        OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", GLOO_SOCKET_IFNAME="lo", LOCAL_SIZE="1"
    )
    os.environ["HF_MODULES_CACHE"] = str(Path(work) / "modules")  # where a model's own code goes

    def address(learner: LearnerRank) -> tuple[str, int]:
        if rank == 0:
            pipe.send(learner.rendezvous_address())
        return pipe.recv()

    group = Rank(rank, world_size, address)
    scenario = lone_rank if world_size == 1 else pair_of_ranks
    try:
        pipe.send(scenario(group, model, Path(work)))
    except Exception:
        pipe.send({"failure": traceback.format_exc()})
        raise
    finally:
        group.learner.close()


# ---------------------------------------------------------------------- in the test's process


def run_group(world_size: int, model: str, work: Path) -> list[dict[str, Any]]:
    """Run a group's scenarios; returns the results of each rank."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in range(world_size):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(
            target=rank_process, args=(rank, world_size, model, str(work), theirs)
        )
        process.start()
        theirs.close()  # so that a dead rank is an EOFError here, not a wait without end
        pipes.append(ours)
        processes.append(process)
    try:
        while not isinstance(message := pipes[0].recv(), dict):
            for pipe in pipes:
                pipe.send(message)
        results = [message, *(pipe.recv() for pipe in pipes[1:])]
        assert not [r["failure"] for r in results if "failure" in r]
        return results
    finally:
        for process in processes:
            process.join(30)
            process.kill()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    (path / "tokenizer.json").write_text('{"kept": true}')
    return str(path)


@pytest.fixture(scope="module")
def shared_memory() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if "deepspeed" in name}


@pytest.fixture(scope="module")
def alone(
    model: str, tmp_path_factory: pytest.TempPathFactory, shared_memory: set[str]
) -> dict[str, Any]:
    return run_group(1, model, tmp_path_factory.mktemp("alone"))[0]


@pytest.fixture(scope="module")
def pair(
    model: str, tmp_path_factory: pytest.TempPathFactory, shared_memory: set[str]
) -> list[dict[str, Any]]:
    return run_group(2, model, tmp_path_factory.mktemp("pair"))


def plain_loss(logprobs: Any, sequence: TrainSequence) -> Any:
    """Sum over the trained tokens of one sequence, straight from the formulas."""
    import torch

    mask = torch.from_numpy(sequence.mask_T[1:])
    if sequence.advantages_T is None:
        return -logprobs[mask].sum()
    given = sequence.advantages_T, sequence.behavior_T, sequence.reference_T
    advantages, behavior, reference = (
        torch.from_numpy(array[1:]) for array in given if array is not None
    )
    # Truncated importance sampling: a constant weight; p / p has the value 1 and p's gradient.
    weight = (logprobs.detach() - behavior).exp().clamp(max=2.0)
    policy = -weight * (logprobs - logprobs.detach()).exp() * advantages
    delta = reference - logprobs
    return (policy + GRPO.kl_coef * (delta.exp() - delta - 1))[mask].sum()


def plain_loop(model: str, kind: str, steps: int, count: int = 9) -> Trace:
    """AdamW over whole, unpacked sequences: the yardstick."""
    import torch
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    )
    adam = torch.optim.AdamW(
        net.parameters(), lr=LR, betas=OPTIM.betas, weight_decay=OPTIM.weight_decay
    )
    given = sequences(kind, count)
    trained = sum(int(s.mask_T.sum()) for s in given)
    values = []
    for _ in range(steps):
        loss = torch.zeros(())
        for sequence in given:
            tokens = torch.from_numpy(sequence.tokens_T).long()
            logprobs = (
                net(tokens[None]).logits[0, :-1].log_softmax(-1).gather(1, tokens[1:, None])[:, 0]
            )
            loss = loss + plain_loss(logprobs, sequence) / trained
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), OPTIM.grad_clip)
        adam.step()
        adam.zero_grad()
        prefix = "sft" if kind == "nll" else "rl"
        values.append({f"{prefix}/loss": loss.item(), f"{prefix}/grad_norm": norm.item()})
    return values, {name: p.detach().numpy() for name, p in net.named_parameters()}


# Of a weight: one percent of LR. Adam makes that of rounding errors where a gradient is near 0.
TOLERANCE = 3e-5


def assert_close(found: Trace, want: Trace, tolerance: float = TOLERANCE) -> None:
    assert len(found[0]) == len(want[0])
    for step, (ours, theirs) in enumerate(zip(found[0], want[0], strict=True)):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=tolerance), (
                f"{name} of step {step}"
            )
    assert found[1].keys() == want[1].keys()
    for name, values in want[1].items():
        np.testing.assert_allclose(found[1][name], values, atol=tolerance, err_msg=name)


def assert_same(found: Trace, want: Trace) -> None:
    assert found[0] == want[0]
    for name, values in want[1].items():
        np.testing.assert_array_equal(found[1][name], values, err_msg=name)


@pytest.mark.parametrize("kind", ["nll", "grpo"])
@pytest.mark.parametrize("stage", STAGES)
def test_one_rank_equals_a_plain_torch_loop(
    alone: dict[str, Any], model: str, stage: int, kind: str
) -> None:
    assert_close(alone[f"{kind}{stage}"], plain_loop(model, kind, 3))


@pytest.mark.parametrize("kind", ["nll", "grpo"])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_uneven_ranks_equal_a_plain_torch_loop(
    pair: list[dict[str, Any]], model: str, stage: int, kind: str
) -> None:
    assert_close(pair[0][f"{kind}{stage}"], plain_loop(model, kind, 3))


def test_chunks_of_logits_work_on_partitioned_weights(
    pair: list[dict[str, Any]], model: str
) -> None:
    assert_close(pair[0]["chunked"], plain_loop(model, "grpo", 3))


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_every_rank_reports_the_reduced_numbers(
    pair: list[dict[str, Any]], alone: dict[str, Any], stage: int
) -> None:
    for kind in ("nll", "grpo"):
        ours, others = pair[0][f"{kind}{stage}"][0], pair[1][f"{kind}{stage}"][0]
        assert others == ours
        for one, two in zip(alone[f"{kind}{stage}"][0], ours, strict=True):
            assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_rank_without_sequences_keeps_in_step(
    pair: list[dict[str, Any]], model: str, stage: int
) -> None:
    assert_close(pair[0][f"one{stage}"], plain_loop(model, "nll", 1, count=1))


def test_many_micro_batches_equal_one(alone: dict[str, Any]) -> None:
    assert_close(alone["nll2"], alone["single_micro_batch"])


def test_only_rank_0_gathers(pair: list[dict[str, Any]]) -> None:
    assert pair[0]["nll3"][1]
    assert not pair[1]["nll3"][1]


def test_metrics_are_those_of_the_table(alone: dict[str, Any]) -> None:
    sft, rl = alone["nll2"][0][0], alone["grpo2"][0][0]
    assert set(sft) == {"sft/loss", "sft/grad_norm", "sft/lr", "sft/tokens"}
    assert set(rl) == {
        f"rl/{name}"
        for name in (
            "loss",
            "kl",
            "entropy",
            "ratio_mean",
            "ratio_max",
            "clip_low",
            "clip_high",
            "weight_cut",
            "weight_mean",
            "ess",
            "behavior_kl",
            "grad_norm",
            "lr",
        )
    } | {
        f"bins/{name}_{bin_name}"
        for name in ("ratio_mean", "cut", "behavior_kl", "tokens")
        for bin_name in ("short", "long")
    }
    assert set(sft) | set(rl) <= set(TABLE)
    assert sft["sft/tokens"] == sum(s.tokens_T.size for s in sequences())
    assert sft["sft/lr"] == LR
    assert 0 < rl["rl/entropy"] < np.log(VOCAB)
    assert rl["rl/ratio_max"] > 1.28
    assert 0 < rl["rl/weight_cut"] < 1
    assert 0 < rl["rl/ess"] < 1
    assert rl["bins/tokens_short"] + rl["bins/tokens_long"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("ranks", "case"),
    [
        (1, "next0"),
        (1, "next1"),
        (1, "next2"),
        (1, "next3"),
        (1, "next_half2"),
        (1, "next_half3"),
        (2, "next2"),
    ],
)
def test_a_stage_begun_in_place_equals_one_rebuilt_from_the_files(
    alone: dict[str, Any], pair: list[dict[str, Any]], ranks: int, case: str
) -> None:
    results = (alone if ranks == 1 else pair[0])[case]
    assert results["first_read"]
    assert not results["in_place_read"]
    assert results["moved_on_read"]  # the weights had changed since the export
    assert_same(results["in_place"], results["rebuilt"])
    assert_same(results["reread"], results["rebuilt"])


@pytest.mark.parametrize("case", ["resumed0", "resumed1", "resumed2", "resumed3", "resumed_half2"])
def test_training_resumes_from_saved_state_as_if_never_stopped(
    alone: dict[str, Any], case: str
) -> None:
    results = alone[case]
    assert_same(results["again"], results["on"])
    assert_same(results["in_place"], results["on"])
    assert "tokenizer.json" in results["files"]


def test_two_ranks_resume_from_saved_state(pair: list[dict[str, Any]]) -> None:
    assert_same(pair[0]["resumed3"]["again"], pair[0]["resumed3"]["on"])


def test_state_of_another_kind_of_group_is_refused(alone: dict[str, Any]) -> None:
    assert "RunStateError" in alone["resumed2"]["other_kind"]
    assert "learner.zero_stage = 1, saved with 2" in alone["resumed2"]["other_kind"]
    assert "holds no learner state" in alone["resumed2"]["no_state"]


def test_an_export_is_the_model(alone: dict[str, Any]) -> None:
    results = alone["exported"]
    np.testing.assert_array_equal(*results["logits"])
    assert results["dtype"] == "torch.float32"
    assert results["files"] == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert results["beside"] == ["export"]  # nothing half-written is left
    assert results["halves_agree"]


def test_partitioned_models_keep_their_rotary_frequencies(alone: dict[str, Any]) -> None:
    partitioned, whole = alone["buffers"]
    assert partitioned.keys() == whole.keys()
    assert partitioned
    for name, values in whole.items():
        np.testing.assert_array_equal(partitioned[name], values, err_msg=name)


def test_wrong_steps_are_refused(alone: dict[str, Any]) -> None:
    errors = alone["refused"]
    assert "announced" in errors["tokens"]
    assert "at least one trained token" in errors["none"]
    assert "needs advantages_T" in errors["advantages"]
    assert "needs reference_T" in errors["reference"]
    assert errors["precision"].startswith("ConfigError: learner.zero_stage = 0")


@pytest.mark.parametrize("stage", [0, 3])
def test_code_of_a_model_directory_runs_only_where_it_is_trusted(
    alone: dict[str, Any], model: str, stage: int
) -> None:
    results = alone["custom_code"]
    assert "student.trust_remote_code = False" in results[f"refused{stage}"]
    assert "Python code of its own" in results[f"refused{stage}"]
    # Trained, saved, resumed, exported and read again, it is the model that needs no code.
    steps, weights = plain_loop(model, "nll", 3)
    assert_close(results[f"trained{stage}"], (steps[2:], weights))
    assert results[f"kind{stage}"] == "OwnForCausalLM"
    assert results[f"files{stage}"] == set(CODE)


def test_no_shared_memory_is_left(
    alone: dict[str, Any], pair: list[dict[str, Any]], shared_memory: set[str]
) -> None:
    # LOCAL_SIZE was set in the ranks' environment, which makes DeepSpeed allocate such buffers
    # unless we prevent it.
    assert {name for name in os.listdir("/dev/shm") if "deepspeed" in name} <= shared_memory


def test_only_buffers_of_the_own_port_are_removed(tmp_path: Path) -> None:
    own = "deepspeed_allreduce_buffer_0_127.0.0.1_29501_0"
    others = ["deepspeed_allreduce_buffer_0_127.0.0.1_29502_0", "bard_weights_29501_0"]
    for name in [own, *others]:
        (tmp_path / name).touch()
    assert remove_shared_memory(29501, str(tmp_path)) == [own]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)
