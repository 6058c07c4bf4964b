"""The one place that sets environment variables: threads, silence, and no network beyond loopback.

Every actor process gets `actor_env()` before its interpreter starts, so that even import-time
readers see it.
"""

from __future__ import annotations

import os

# Usage statistics and update checks of every engine are off; nothing leaves the machine.
NO_TELEMETRY = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}

LOOPBACK = "127.0.0.1"
# Process groups would listen on whatever address the name of the machine resolves to.
LOOPBACK_GROUPS = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
# Given 127.0.0.1, Ray takes the address of the machine instead and listens on every interface,
# unless this says that the machine cannot be part of a larger cluster. The name is Ray's.
LOOPBACK_RAY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "TQDM_DISABLE": "1",
    # Ray's paragraph of possible causes; the driver reports a lost actor itself, with its log.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed while executing a task",
}

CACHED_KERNELS = 32

VERBOSE = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "TORCH_CPP_LOG_LEVEL": "WARNING",
    "TRANSFORMERS_VERBOSITY": "warning",
}


def thread_env(threads: int) -> dict[str, str]:
    """OpenMP settings of a worker: few threads, at least one, that sleep while they wait.

    Spinning threads beside a busy neighbor ran 20 times slower (measured on two cores), hence
    PASSIVE everywhere.
    """
    return {
        "OMP_NUM_THREADS": str(max(1, threads)),
        "MKL_NUM_THREADS": str(max(1, threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
    }


def engine_env(*, on_gpu: bool, loopback: bool = True) -> dict[str, str]:
    """Settings of vLLM: one process per engine, and no core pinning.

    Several engines would pin to the same core.

    Args:
        on_gpu: the engine has GPUs.
        loopback: all roles are on this machine, so nothing listens beyond it.
    """
    env = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_ALLOW_INSECURE_SERIALIZATION": "0"}
    if loopback:
        env |= {"VLLM_HOST_IP": LOOPBACK} | LOOPBACK_GROUPS
    if not on_gpu:
        # Compiling the log-prob helper costs seconds at the first generate and gains nothing on
        # small models.
        env |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
        }
    return env


def packed_env() -> dict[str, str]:
    """Settings of torch for micro-batches of ever new shapes; the numbers stay the same.

    On a CPU oneDNN and its wrapper in torch keep 1,024 bfloat16 matrix kernels each, by shape: a
    learner grew by 18 MB a step for as long as it was measured (benchmarks/memory_plan.py). A layer
    forward and backward needs about 30 of them.
    """
    kernels = str(CACHED_KERNELS)
    return {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": kernels, "LRU_CACHE_CAPACITY": kernels}


def learner_env(*, on_gpu: bool, loopback: bool) -> dict[str, str]:
    """Settings of DeepSpeed.

    LOCAL_SIZE is never set: with it DeepSpeed leaves shared-memory segments behind.
    """
    env = {} if on_gpu else {"DS_ACCELERATOR": "cpu"}
    return env | packed_env() | (LOOPBACK_GROUPS if loopback else {})


def network_env() -> dict[str, str]:
    """Models and data sets come from the local cache, unless the user has set HF_HUB_OFFLINE=0."""
    return {"HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1")}


def actor_env(
    *, threads: int, verbose: bool, extra: dict[str, str] | None = None
) -> dict[str, str]:
    """Environment of one actor process."""
    loud = VERBOSE if verbose else {}
    return NO_TELEMETRY | network_env() | QUIET | loud | thread_env(threads) | (extra or {})


def apply_driver_env() -> None:
    """Set the same for the driver's own process; values that the user has set take precedence."""
    for key, value in (NO_TELEMETRY | network_env() | QUIET).items():
        os.environ.setdefault(key, value)
