"""Memory needs of each device, estimated from the configuration before any process starts.

Weights, gradients and optimizer states are exact. Activations, logits and the fixed share of a
process are estimates: accurate enough to reject a plan that cannot fit, not to fill a device
completely. benchmarks/memory_plan.py compares them with runs. Sizes are in bytes; texts use GiB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bard_ray.config.schema import Config, LearnerConfig, StudentConfig
from bard_ray.data.tiny_shape import vocabulary
from bard_ray.errors import ConfigError
from bard_ray.model_files import stored_params
from bard_ray.preflight.activations import activation_bytes, head_bytes, layer_bytes, logit_bytes

GIB = float(1 << 30)
MIB = float(1 << 20)

# Interpreter, Ray, torch and vLLM of a rollout worker on a CPU: 0.8 to 1.0 GB resident, measured.
ENGINE_PROCESS_BYTES = 1.0 * GIB
# Interpreter, Ray, torch, transformers and DeepSpeed of a learner rank on a CPU, and of a reference
# worker: measured, benchmarks/memory_plan.py.
TRAINING_PROCESS_BYTES = 0.65 * GIB
# A grading worker: a Ray actor and its child with sympy. Ours, an allowance;
# `verifier.memory_mb` bounds addresses.
VERIFIER_BYTES = 0.5 * GIB
# CUDA context, NCCL buffers and allocator waste of one process on a GPU.
# Ours, an allowance; not measured.
GPU_PROCESS_BYTES = 2.0 * GIB
# Elements of one of DeepSpeed's gradient buckets, its default.
BUCKET_ELEMENTS = 500_000_000


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder with gated MLP; `source` names their origin.

    `params` counts all parameters.
    """

    source: str
    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    params: int = 0

    def counted(self) -> int:
        """Parameters of a Qwen3 of these sizes.

        Math:
            V h (1 or 2) + layers (2 h q + 2 h kv + 3 h mlp + 2 h + 2 head_dim) + h
            with q = heads * head_dim and kv = kv_heads * head_dim
        """
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = (
            2 * self.hidden * (q + kv)
            + 3 * self.hidden * self.mlp
            + 2 * self.hidden
            + 2 * self.head_dim
        )
        return self.embedding() + self.layers * layer + self.hidden

    def embedding(self) -> int:
        """Parameters of the input embedding and, if it is not tied, the output embedding."""
        return self.vocab * self.hidden * (1 if self.tied else 2)


# Published Qwen3 sizes, used for a hub model of which only the number of parameters is known.
KNOWN_SHAPES = (
    ModelShape("Qwen3-0.6B", 28, 1024, 3072, 16, 8, 128, 151_936, tied=True),
    ModelShape("Qwen3-1.7B", 28, 2048, 6144, 16, 8, 128, 151_936, tied=True),
    ModelShape("Qwen3-4B", 36, 2560, 9728, 32, 8, 128, 151_936, tied=True),
    ModelShape("Qwen3-8B", 36, 4096, 12_288, 32, 8, 128, 151_936, tied=False),
    ModelShape("Qwen3-14B", 40, 5120, 17_408, 40, 8, 128, 151_936, tied=False),
    ModelShape("Qwen3-32B", 64, 5120, 25_600, 64, 8, 128, 151_936, tied=False),
)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one device of a role, in bytes.

    `capacity` is the memory it may use; None if unknown.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    capacity: float | None = None

    @property
    def total(self) -> float:
        """Sum of the parts in bytes."""
        return sum(self.parts.values())


def model_shape(config: Config) -> ModelShape:
    """Sizes of the student.

    They are those of the tiny student, of its `config.json`, or of the published Qwen3 closest to
    `student.params`.

    Raises:
        ConfigError: the size of the student is unknown, or its `config.json` lacks a size.
    """
    student = config.student
    if student.path == "tiny":
        return _tiny_shape(config)
    config_file = find_config(student)
    if config_file is not None:
        return _shape_from_file(student, config_file)
    if student.params > 0:
        return _nearest_shape(student.params)
    rule = f"the memory plan needs the size of {student.path}, whose config.json is not here"
    raise ConfigError(
        "student.params", student.params, rule, "Give the number of parameters, for example 8.2e9."
    )


def _tiny_shape(config: Config) -> ModelShape:
    tiny = config.student.tiny
    vocab = len(vocabulary(config.data.chain.ops))
    head_dim = tiny.hidden // tiny.heads
    sizes = (tiny.layers, tiny.hidden, tiny.mlp, tiny.heads, tiny.heads, head_dim, vocab)
    shape = ModelShape("tiny", *sizes, tied=True)
    return replace(shape, params=shape.counted())


def _nearest_shape(params: float) -> ModelShape:
    nearest = min(KNOWN_SHAPES, key=lambda shape: abs(math.log(shape.counted() / params)))
    return replace(nearest, params=int(params))


def find_config(student: StudentConfig) -> Path | None:
    """`config.json` in the model directory, or in the local Hugging Face cache.

    Nothing is downloaded.
    """
    directory = Path(student.path).expanduser()
    if directory.is_dir():
        return directory / "config.json"
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(student.path, "config.json", revision=student.revision)
    return Path(found) if isinstance(found, str) else None


def _shape_from_file(student: StudentConfig, config_file: Path) -> ModelShape:
    sizes: dict[str, Any] = json.loads(config_file.read_text())
    sizes = sizes.get("text_config", sizes)
    try:
        heads, hidden = int(sizes["num_attention_heads"]), int(sizes["hidden_size"])
        shape = ModelShape(
            source=student.path,
            layers=int(sizes["num_hidden_layers"]),
            hidden=hidden,
            mlp=int(sizes["intermediate_size"]),
            heads=heads,
            kv_heads=int(sizes.get("num_key_value_heads") or heads),
            head_dim=int(sizes.get("head_dim") or hidden // heads),
            vocab=int(sizes["vocab_size"]),
            tied=bool(sizes.get("tie_word_embeddings", False)),
        )
    except KeyError as missing:
        rule = f"its config.json has no {missing}, so its memory cannot be planned"
        raise ConfigError(
            "student.path", student.path, rule, "Use a dense decoder model such as Qwen3."
        ) from missing
    params = student.params or stored_params(config_file.parent) or shape.counted()
    return replace(shape, params=int(params))


def learner_memory(config: Config, shape: ModelShape) -> DeviceMemory:
    """One learner rank.

    Math (P parameters, N ranks, stage Z; bytes a parameter w, g, o):
        w is 2 in bfloat16, else 4; g is 4; o is 12 with ZeRO, which keeps float32 masters, else 8
        weights P w / (N if Z >= 3), gradients P g / (N if Z >= 2), optimizer P o / (N if Z >= 1)

    Gradients are accumulated in float32 in any case. For activations see
    `bard_ray.preflight.activations`.

    Source: ZeRO (arXiv 1910.02054), section 3 and figure 1.
    """
    learner = config.learner
    weight, gradient = (2 if learner.precision == "bfloat16" else 4), 4
    optimizer = 12 if learner.zero_stage else 8

    def shared(stage: int) -> int:
        return learner.ranks if learner.zero_stage >= stage else 1

    parts = {
        "weights": shape.params * weight / shared(3),
        "gradients": shape.params * gradient / shared(2),
        "optimizer": shape.params * optimizer / shared(1),
        "activations": activation_bytes(learner, shape),
        "logits": logit_bytes(learner.micro_tokens, shape) + head_bytes(shape),
        "process": _process_bytes(learner.gpus),
    }
    if learner.zero_stage:
        parts["buckets"] = _bucket_bytes(learner, shape)
    if not learner.gpus:
        # Rank 0's buffer of weights for the rollout workers; on a GPU node it is in main memory.
        parts["published"] = float(shape.params * _rollout_bytes(config))
    if learner.zero_stage == 3 and learner.ranks > 1:
        parts["gathered"] = weight * (shape.embedding() + 2 * _layer_params(shape))
    if learner.precision == "bf16_autocast":
        parts["bf16 copy"] = 2.0 * shape.params
    return DeviceMemory(parts, _capacity(config, learner.gpus))


def reference_memory(config: Config, shape: ModelShape) -> DeviceMemory:
    """The reference worker.

    It holds the weights, and one layer at a time of a forward pass over `learner.micro_tokens`
    tokens.
    """
    reference, learner = config.reference, config.learner
    weight = 2 if reference.precision == "bfloat16" else 4
    parts = {
        "weights": float(shape.params * weight),
        "activations": layer_bytes(learner, reference.precision, shape),
        "logits": logit_bytes(learner.micro_tokens, shape),
        "process": _process_bytes(reference.gpus),
    }
    if reference.precision == "bf16_autocast":
        parts["bf16 copy"] = 2.0 * shape.params
    return DeviceMemory(parts, _capacity(config, reference.gpus))


def rollout_memory(config: Config, shape: ModelShape) -> DeviceMemory:
    """One device of a rollout worker.

    On a GPU the key-value cache takes the rest of vLLM's share after the weights.
    """
    rollout = config.rollout
    weights = shape.params * _rollout_bytes(config) / rollout.tensor_parallel
    if rollout.gpus == 0:
        parts = {
            "weights": weights,
            "kv cache": rollout.kv_cache_mb * MIB,
            "process": ENGINE_PROCESS_BYTES,
        }
        if rollout.weight_load != "in_place":
            parts["next weights"] = weights  # built while the current ones serve
        return DeviceMemory(parts, None)
    allowed = rollout.gpu_memory_utilization * gpu_bytes(config)
    cache = max(allowed - weights - GPU_PROCESS_BYTES, sequence_cache_bytes(config, shape))
    return DeviceMemory(
        {"weights": weights, "kv cache": cache, "process": GPU_PROCESS_BYTES}, allowed
    )


def sequence_cache_bytes(config: Config, shape: ModelShape) -> float:
    """Keys and values of one sequence of `student.max_len` tokens on one device.

    Math:
        2 max_len layers kv bytes / tp
    """
    values = 2 * config.student.max_len * shape.layers * shape.kv_heads * shape.head_dim
    return values * _rollout_bytes(config) / config.rollout.tensor_parallel


def gpu_bytes(config: Config) -> float:
    """Memory of one GPU in bytes."""
    return config.cluster.gpu_memory_gb * GIB


def _rollout_bytes(config: Config) -> int:
    return 4 if config.rollout.dtype == "float32" else 2


def _layer_params(shape: ModelShape) -> float:
    return (shape.params - shape.embedding()) / shape.layers


def _bucket_bytes(learner: LearnerConfig, shape: ModelShape) -> float:
    """DeepSpeed's buffers for gradients in transit between ranks.

    They have a fixed number of elements; a CPU backs only those that are written.
    """
    value = 2 if learner.precision == "bfloat16" and learner.zero_stage > 1 else 4
    if not learner.gpus:
        return float(value * min(shape.params, BUCKET_ELEMENTS))
    buffers = 2 if learner.zero_stage == 2 else 1  # two where communication overlaps
    return float(value * buffers * BUCKET_ELEMENTS)


def _process_bytes(gpus: float) -> float:
    return GPU_PROCESS_BYTES if gpus else TRAINING_PROCESS_BYTES


def _capacity(config: Config, gpus: float) -> float | None:
    """A role that reserves a fraction of a GPU may use that fraction of its memory."""
    return min(gpus, 1.0) * gpu_bytes(config) if gpus else None
