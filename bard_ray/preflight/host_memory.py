"""Main memory besides that of the roles: the driver, and Ray if it is started here.

All sizes are estimates in bytes. Data sets of teacher chains are read whole and are not counted,
because their size is not known in advance.
"""

from __future__ import annotations

from bard_ray.config.schema import Config
from bard_ray.preflight.memory import MIB, DeviceMemory
from bard_ray.preflight.room import ANSWER_TOKENS, prompt_tokens

# Interpreter, Ray, the tokenizer of the student and the metrics writer.
DRIVER_PROCESS_BYTES = 450 * MIB
# Raylet, GCS and agents of a local cluster.
RAY_BYTES = 400 * MIB
# A row of a corpus in the driver: its question, texts and arrays as Python objects, and the bytes
# per token for text, token id and mask.
ROW_BYTES = 3_000
TOKEN_BYTES = 10


def driver_memory(config: Config) -> DeviceMemory:
    """The driver, with the largest corpus of a supervised stage."""
    return DeviceMemory({"process": DRIVER_PROCESS_BYTES, "corpus": corpus_bytes(config)})


def ray_memory(config: Config) -> DeviceMemory:
    """Ray's own processes on this machine and the object store; nothing on a given cluster."""
    if config.cluster.address != "local":
        return DeviceMemory()
    return DeviceMemory(
        {"process": RAY_BYTES, "object store": config.cluster.object_store_mb * MIB}
    )


def corpus_bytes(config: Config) -> float:
    """The largest corpus of a supervised stage, as texts and as sequences.

    Rows of the budgeted corpus have the mean length of the budgets; other rows have their maximum
    length.
    """
    distill, budgets = config.distill, config.budget.train
    mean_budget = sum(budgets) / len(budgets) if budgets else 0.0
    budgeted = prompt_tokens(config) + mean_budget + ANSWER_TOKENS[config.data.source]
    whole = config.student.max_len
    sizes = [
        (config.base.enabled, config.base.rows or distill.questions, whole),
        (config.sft_full.enabled, config.sft_full.rows or distill.questions, whole),
        (config.sft.enabled, distill.questions * distill.budgets_per_question, budgeted),
    ]
    rows = [count * (ROW_BYTES + tokens * TOKEN_BYTES) for used, count, tokens in sizes if used]
    return max(rows, default=0.0)
