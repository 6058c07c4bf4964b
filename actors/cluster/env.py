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
# Otherwise process groups would listen on the address that the machine's name resolves to.
LOOPBACK_GROUPS = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
# Ray replaces 127.0.0.1 by the machine's own address and listens on every interface, unless this
# variable states that the machine cannot be part of a larger cluster. The name is Ray's.
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
    """OpenMP settings of a worker: `threads` threads (at least one) that sleep while they wait.

    Spinning threads next to a busy process ran 20 times slower (measured on two cores), hence
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

    Several engines would be pinned to the same core.

    Args:
        on_gpu: whether the engine has GPUs.
        loopback: all roles run on this machine and listen on loopback only.
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
    """Torch settings for micro-batches whose shapes keep changing; results are unaffected.

    On a CPU, oneDNN and its wrapper in torch each cache 1,024 bfloat16 matrix kernels by shape: a
    learner grew by 18 MB per step throughout the measurement (benchmarks/memory_plan.py). The
    forward and backward passes of a layer need about 30 of them.
    """
    kernels = str(CACHED_KERNELS)
    return {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": kernels, "LRU_CACHE_CAPACITY": kernels}


def learner_env(*, on_gpu: bool, loopback: bool) -> dict[str, str]:
    """DeepSpeed settings.

    LOCAL_SIZE is never set: with it, DeepSpeed leaves shared-memory segments behind.
    """
    env = {} if on_gpu else {"DS_ACCELERATOR": "cpu"}
    return env | packed_env() | (LOOPBACK_GROUPS if loopback else {})


def network_env() -> dict[str, str]:
    """Load models and data sets from the local cache, unless the user has set HF_HUB_OFFLINE=0."""
    return {"HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1")}


def actor_env(
    *, threads: int, verbose: bool, extra: dict[str, str] | None = None
) -> dict[str, str]:
    """Environment of one actor process."""
    loud = VERBOSE if verbose else {}
    return NO_TELEMETRY | network_env() | QUIET | loud | thread_env(threads) | (extra or {})


def apply_driver_env() -> None:
    """Apply the same settings to the driver process; values set by the user take precedence."""
    for key, value in (NO_TELEMETRY | network_env() | QUIET).items():
        os.environ.setdefault(key, value)
