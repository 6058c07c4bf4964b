"""The whole configuration as dataclasses.

A recipe fills it in, dotted overrides change it, and `bard_ray.preflight.check` validates it.

Units are in the names: `_s` seconds, `_tokens` tokens, `_mb` MiB. Lag is in optimizer steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class RunConfig:
    """Name, directory and goal of a run."""

    name: str = "bard"
    dir: str = "runs"  # the run's files are in <dir>/<name>; absolute in a submitted job
    # what the run is for: a trained student and its figures, or the training data only
    goal: Literal["student", "corpus"] = "student"
    seed: int = 0
    fresh: bool = False  # delete the files of an earlier run of this name, and start over
    verbose: bool = False  # engines also log warnings, not only errors, to their files under logs/


@dataclass
class TinyModelConfig:
    """The model generated if `student.path` is `tiny`: a Qwen3 with random weights."""

    layers: int = 2
    hidden: int = 128
    heads: int = 4  # of attention, for queries and keys alike
    mlp: int = 384
    init_std: float = 0.049


@dataclass
class StudentConfig:
    """The model that is trained."""

    # `tiny`, a Hugging Face model directory (a checkpoint or export of another run, too) or hub id
    path: str = "tiny"
    revision: str = "main"  # of a hub id
    params: float = 0.0  # number of parameters for the memory plan; 0: read from the model's files
    max_len: int = 128  # longest prompt plus completion, in tokens
    think_open: str = "<think>"
    think_close: str = "</think>"
    trust_remote_code: bool = False
    tiny: TinyModelConfig = field(default_factory=TinyModelConfig)


@dataclass
class ChainConfig:
    """The synthetic task: a start digit and labeled operations on a running value modulo 10."""

    ops: list[str] = field(default_factory=lambda: ["+1", "*3"])
    min_ops: int = 10  # minimum number of operations of a question
    max_ops: int = 14  # maximum number of operations of a question
    base_min_ops: int = 4  # minimum in the `base` stage, which also sees short chains


@dataclass
class RowsConfig:
    """Teacher chains and questions from a data set (local JSONL/Parquet, or a hub id)."""

    path: str = ""  # a file, or a hub id
    config: str = ""  # of a hub id, as are split and revision
    split: str = "train"
    revision: str = "main"
    format: str = "rows"  # how its rows are read: a name in docs/data.md, or module:Class
    params: dict[str, Any] = field(default_factory=dict)  # of the format
    # the format's name of a column -> the data set's name, for example {question: prompt_text}
    columns: dict[str, str] = field(default_factory=dict)
    # the evaluation questions; empty: the last `data.eval_questions` questions of `path`
    eval_path: str = ""
    # of the evaluation questions; empty: the format above with its parameters and columns
    eval_format: str = ""
    eval_config: str = ""
    eval_split: str = ""
    eval_revision: str = ""


@dataclass
class DataConfig:
    """Questions and teacher chains."""

    source: Literal["chain", "rows"] = "chain"  # the synthetic task, or a data set
    chain: ChainConfig = field(default_factory=ChainConfig)
    rows: RowsConfig = field(default_factory=RowsConfig)
    eval_questions: int = 256  # held out from training


@dataclass
class BudgetSamplerConfig:
    """Sampler of the budgets of a group; see docs/budgets.md."""

    name: str = "uniform"  # or module:Class
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class BudgetScheduleConfig:
    """Schedule of the budgets available at a step; see docs/budgets.md."""

    name: str = "constant"  # or module:Class
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class BudgetConfig:
    """Thinking budgets for training, and those held out for the evaluation."""

    codec: Literal["digits", "sentence"] = "digits"  # how a prompt says its budget; digits: 0 to 99
    train: list[int] = field(default_factory=list)  # in tokens
    held_out: list[int] = field(default_factory=list)  # in tokens; never taught
    none_share: float = 0.05  # share of prompts without a budget, in SFT rows and in RL
    sampler: BudgetSamplerConfig = field(default_factory=BudgetSamplerConfig)  # RL only
    schedule: BudgetScheduleConfig = field(default_factory=BudgetScheduleConfig)  # RL only


@dataclass
class CompressorConfig:
    """Compressor of chains to budgets; see docs/distillation.md."""

    name: str = "drop_steps"  # or module:Class
    params: dict[str, Any] = field(default_factory=dict)
    writer: str = ""  # the entry of `distill.teachers` that rewrites, for compressors that need one


@dataclass
class BudgetAllocationConfig:
    """Allocation of budgets to questions; see docs/distillation.md."""

    name: str = "uniform"  # or module:Class
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class SmokeConfig:
    """Smoke test of teachers: a short supervised stage on a sample of each one's data."""

    candidates: list[str] = field(default_factory=list)  # empty: all teachers but the writer
    questions: int = 500  # a candidate
    epochs: float = 1.0
    lr: float = 0.0  # 0: that of the `sft` stage
    batch_rows: int = 0  # 0: that of the `sft` stage
    eval_questions: int = 64


@dataclass
class DistillConfig:
    """From questions to a curated, budget-labeled corpus."""

    store: str = ""  # directory of step outputs, shared by all runs; empty: <run.dir>/distill
    questions: int = 10_000  # taken from the data, before any are dropped
    # candidate teachers by name, {r1: {backend: openai, model: ...}}; empty: the data has chains
    teachers: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""  # whose chains are used; empty: the only one, or the smoke test's choice
    smoke: SmokeConfig = field(default_factory=SmokeConfig)
    # steps of the pipeline in order, as names or {name: {parameter: value}}
    steps: list[Any] = field(default_factory=list)
    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    allocation: BudgetAllocationConfig = field(default_factory=BudgetAllocationConfig)
    budgets_per_question: int = 4
    workers: int = 0  # concurrent CPU-bound tasks; 0: the number of free CPUs


@dataclass
class SFTConfig:
    """One supervised stage."""

    enabled: bool = True
    # rows of its corpus (base, sft_full), 0: all; the corpus of `sft` takes its size from `distill`
    rows: int = 0
    epochs: float = 1.0
    batch_rows: int = 32  # rows of one optimizer step
    lr: float = 2e-3
    min_lr_ratio: float = 0.05  # the learning rate ends at this share of `lr`, on a cosine
    warmup_steps: int = 50
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    grad_clip: float = 1.0


@dataclass
class FidelityConfig:
    """Shape of the budget fidelity: a plug-in of `bard_ray.rewards.shapes`, or `module:Class`."""

    name: str = "asymmetric"
    params: dict[str, Any] = field(default_factory=dict)  # the others keep their defaults


@dataclass
class RewardConfig:
    """Reward of a rollout: a plug-in of `bard_ray.rewards.library`, or `module:Class`."""

    name: str = "product"
    params: dict[str, Any] = field(default_factory=dict)  # the others keep their defaults
    # tokens of the answer that are free; further ones count as thinking
    answer_limit: int = 512
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)


@dataclass
class CorrectionConfig:
    """Off-policy correction for tokens sampled by an older policy or by another engine."""

    # truncated, masked, sequence, decoupled, none, or module:Class
    name: str = "truncated"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class RLConfig:
    """Asynchronous GRPO."""

    enabled: bool = True
    # optimizer steps, each is one weight version; may change on resume, see `bard_ray.rundir`
    steps: int = 200
    prompts_per_step: int = 16
    group_size: int = 8
    max_lag: int = 1  # optimizer steps; 0: synchronous on-policy; more: generate while training
    # groups in flight beyond the window of max_lag, in multiples of prompts_per_step: they replace
    # zero-variance groups; those not needed are canceled
    oversample: float = 0.0
    lr: float = 4e-4
    min_lr_ratio: float = 0.1
    warmup_steps: int = 10
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    clip_low: float = 0.2  # ratios are clipped to [1 - clip_low, 1 + clip_high]
    clip_high: float = 0.28
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    kl_coef: float = 0.001  # weight of KL(policy || SFT student); 0 starts no reference worker
    std_normalize: bool = True  # divide advantages by the group's standard deviation
    temperature: float = 1.0
    max_new_tokens: int = 60  # of thinking and answer together
    # steps between resumable checkpoints, of which the newest is kept; 0: none
    checkpoint_every: int = 0
    reward: RewardConfig = field(default_factory=RewardConfig)


@dataclass
class EvalConfig:
    """The budget sweep."""

    enabled: bool = True
    budgets: list[int] = field(default_factory=list)  # in tokens, taught ones and others
    samples: int = 1  # answers of each question at each budget
    temperature: float = 1.0
    max_new_tokens: int = 60  # of thinking and answer together
    no_budget: bool = True  # measure without a budget too


@dataclass
class RolloutConfig:
    """vLLM workers."""

    # local: one engine inside the worker; async: AsyncLLM with processes of its own;
    # auto: async where tensor_parallel is above 1
    engine: Literal["auto", "local", "async"] = "auto"
    workers: int = 1
    cpus: float = 0.75  # of one worker, as are gpus
    gpus: float = 0.0
    tensor_parallel: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_num_seqs: int = 256  # sequences that one worker decodes at a time
    kv_cache_mb: int = 128  # of one worker on a CPU; on a GPU see gpu_memory_utilization
    gpu_memory_utilization: float = 0.85  # share of a GPU's memory that vLLM may use
    block_size: int = 32  # tokens of a KV-cache block; 32 or more on a CPU
    enforce_eager: bool = True
    # how new weights are loaded: background builds them beside the old ones while those serve (CPU
    # only); in_place pauses; auto: background where the model allows it
    weight_load: Literal["auto", "background", "in_place"] = "auto"
    # KV cache of running requests after an update: keep what the old weights computed, or recompute
    kv_after_update: Literal["keep", "recompute"] = "keep"
    call_timeout_s: float = 600.0


@dataclass
class LearnerConfig:
    """DeepSpeed ranks."""

    ranks: int = 1
    cpus: float = 0.75  # of one rank, as are gpus
    gpus: float = 0.0
    zero_stage: int = 2
    # float32; bfloat16 matrix products of float32 weights; bfloat16 weights (ZeRO 1 to 3)
    precision: Literal["float32", "bf16_autocast", "bfloat16"] = "bf16_autocast"
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "eager"
    pack_len: int = 256  # tokens of one packed row, student.max_len or more
    micro_tokens: int = 4096  # tokens of one micro-batch with padding, pack_len or more
    recompute: bool = False  # recompute activations in the backward pass: less memory
    # CPU threads of one rank, and of the reference worker; 0: the CPUs that the other roles leave,
    # on a given cluster learner.cpus
    threads: int = 0
    # of one rank in supervised stages, when the other roles are idle; 0: as `threads` if that is
    # given, else all CPUs of the machine, on a given cluster learner.cpus
    sft_threads: int = 0
    call_timeout_s: float = 600.0


@dataclass
class ReferenceConfig:
    """The worker that holds the frozen policy of the KL term."""

    cpus: float = 0.25
    gpus: float = 0.0
    precision: Literal["float32", "bf16_autocast", "bfloat16"] = "bf16_autocast"
    call_timeout_s: float = 300.0


@dataclass
class VerifierConfig:
    """Grading processes."""

    # 0: as many as fit into the CPUs that the other roles leave free at the start, 1 to 16; into a
    # quarter of them where the learner's threads take the rest (learner.threads=0, cluster local)
    workers: int = 0
    cpus: float = 0.25  # of one worker
    limit_s: float = 5.0  # for one answer; its process is killed after that
    memory_mb: int = 2048  # address space of one grading process; a worker has up to three
    max_pending: int = 512  # answers waiting at one worker; callers wait while all are full
    # your own kinds of answers, {chess: "my_graders:grade_chess"}; see docs/grading.md
    kinds: dict[str, str] = field(default_factory=dict)


@dataclass
class ClusterConfig:
    """The Ray cluster: started on this machine for the run, or a given one."""

    # local: start one; auto: join that of this machine or of the submitted job; or host:port
    address: str = "local"
    cpus: int = 0  # local only: logical CPUs of Ray; 0: as many as the machine has
    object_store_mb: int = 512  # local only
    gpu_memory_gb: float = 80.0  # memory of one GPU, for the memory plan
    start_timeout_s: float = 300.0  # wait for a given cluster to grow


@dataclass
class ReportConfig:
    """The report written at the end."""

    title: str = "BARD"


@dataclass
class Config:
    """The whole configuration of a run."""

    run: RunConfig = field(default_factory=RunConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    base: SFTConfig = field(default_factory=SFTConfig)
    sft_full: SFTConfig = field(default_factory=SFTConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    rl: RLConfig = field(default_factory=RLConfig)
    evaluate: EvalConfig = field(default_factory=EvalConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    verifier: VerifierConfig = field(default_factory=VerifierConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
