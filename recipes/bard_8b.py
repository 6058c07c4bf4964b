r"""BARD for an 8B student on one node of 8 GPUs with 80 GB each.

Learner on 4 of them (ZeRO-3), rollout workers on 3, reference on 1. Student: Qwen/Qwen3-8B-Base
(Apache 2.0). Questions: open-r1/OpenR1-Math-220k (Apache 2.0). Chains: whichever of three 32B
teachers gives the best student in a smoke test, compressed by Qwen3-32B; they are served by rollout
workers of their own, 2 GPUs each, before student and learner need the node. Models and data have to
be in the Hugging Face cache of every node beforehand, and `run.dir` in a directory that every node
sees. Planned and checked only: at 8B it has not been run.

    ray job submit --address http://HEAD:8265 --working-dir . -- \
        python recipes/bard_8b.py run.dir=/shared/runs
    python recipes/bard_8b.py --dry-run
    python recipes/bard_8b.py $(cat recipes/tiny_overrides.txt)     on two CPU cores

"Paper" marks what the BARD paper reports; every other number is ours.
"""

from __future__ import annotations

import sys

from bard_ray.config import schema as s

TAUGHT = [500, 1000, 1500, 2000, 3000, 4000, 6000, 8000]  # paper: evaluated from 500 to 8,000
HELD_OUT = [750, 2500, 5000]
MEASURED = sorted(TAUGHT + HELD_OUT)
MAX_LEN = 10_240  # the largest budget, 1.2k tokens to overrun it and answer, 1k for the question
MAX_NEW = 9_216

# A 32B model on 2 devices: 33 GB of weights each; 16k tokens of a chain (DED), 2k for the question.
SERVED = {
    "backend": "rollout", "workers": 1, "cpus": 4, "gpus": 2, "tensor_parallel": 2,
    "max_len": 18_432,
}  # fmt: skip
TEACHERS = {
    "qwq": {**SERVED, "model": "Qwen/QwQ-32B"},  # paper (DED): it won the smoke test there
    "qwen3": {**SERVED, "model": "Qwen/Qwen3-32B"},  # paper: candidate (DED), compressor (BARD)
    "r1_distill": {**SERVED, "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"},
    # BARD's example is DeepSeek-R1 itself, behind an endpoint:
    # distill.teachers.r1='{backend: openai, model: deepseek-reasoner, base_url: ..., key_env: ...}'
}
STEPS = [
    "near_duplicates",
    "decontaminate",
    {"sample_student": {"samples": 8, "temperature": 0.6, "max_new_tokens": 9_216}},
    {"pass_rate": {"max_rate": 0.75}},  # paper (DED): drop what the student can do; share: ours
    {"teach": {
        "chains": 4, "max_tokens": 16_384, "temperature": 0.6,
        "instruction": "Please reason step by step, and put your final answer within \\boxed{}.",
    }},
    {"length": {"max_tokens": 16_384}},  # paper (DED)
    "think_tags",  # paper (DED)
    "grade",
    "correct",  # paper (DED)
    "repetition",  # as DASD does; numbers: ours
    {"diverse": {"keep": 2}},  # paper (DED): the farthest ones; number: ours
]  # fmt: skip


def config() -> s.Config:
    """Configuration of the 8B run; whatever is not named here has the schema's default."""
    chains = s.RowsConfig(path="open-r1/OpenR1-Math-220k", format="openr1")
    # Product reward: paper. The budget is an upper bound (paper); the shape's tolerance of 0.1 and
    # its slope of 0.5 are ours, as is what an answer may take before it counts as thinking.
    reward = s.RewardConfig(
        name="product", answer_limit=1024, fidelity=s.FidelityConfig("cap_linear")
    )
    return s.Config(
        run=s.RunConfig(name="bard_8b"),
        student=s.StudentConfig(path="Qwen/Qwen3-8B-Base", params=8.19e9, max_len=MAX_LEN),
        data=s.DataConfig(source="rows", rows=chains),
        budget=s.BudgetConfig(codec="sentence", train=TAUGHT, held_out=HELD_OUT),
        distill=s.DistillConfig(
            questions=4_000,
            teachers=TEACHERS,
            smoke=s.SmokeConfig(candidates=list(TEACHERS)),  # paper (DED); its size: ours
            steps=STEPS,
            compressor=s.CompressorConfig("rewrite", writer="qwen3"),  # paper (BARD)
            allocation=s.BudgetAllocationConfig("log_uniform"),
            budgets_per_question=4,
        ),
        base=s.SFTConfig(enabled=False),  # this student is pretrained
        sft_full=s.SFTConfig(batch_rows=64, lr=1e-5),  # the unconstrained comparison
        sft=s.SFTConfig(epochs=2, batch_rows=64, lr=1e-5, beta2=0.95, weight_decay=0.0),
        rl=s.RLConfig(
            steps=300, prompts_per_step=64, group_size=8, max_lag=2, lr=1e-6,
            max_new_tokens=MAX_NEW, checkpoint_every=20, reward=reward,
        ),
        evaluate=s.EvalConfig(
            budgets=MEASURED, samples=4, temperature=0.6, max_new_tokens=MAX_NEW
        ),
        rollout=s.RolloutConfig(
            workers=3, cpus=4, gpus=1, dtype="bfloat16", enforce_eager=False,
            gpu_memory_utilization=0.9, call_timeout_s=3600,
        ),
        learner=s.LearnerConfig(
            ranks=4, cpus=4, gpus=1, zero_stage=3, precision="bfloat16",
            attention="flash_attention_2", pack_len=MAX_LEN, micro_tokens=MAX_LEN,
            recompute=True, threads=4, call_timeout_s=1800,
        ),
        reference=s.ReferenceConfig(cpus=4, gpus=1, precision="bfloat16", call_timeout_s=1800),
        verifier=s.VerifierConfig(cpus=1, limit_s=10),
        cluster=s.ClusterConfig(address="auto", start_timeout_s=1800),
        report=s.ReportConfig(title="BARD at 8B"),
    )  # fmt: skip


if __name__ == "__main__":
    from actors.driver import main

    sys.exit(main(config()))
