"""TRL's GRPOTrainer on the tiny task, in a separate process; started by `benchmarks.trl_runs`.

    PYTHONPATH=<directory with trl>:. python -m benchmarks.trl_side '{"model": ..., "threads": ...}'

Prints one JSON line per update. Only the questions, the prompt format and the reward are BARD's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np

from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.data.prompt import PromptFormat, load_prompt_format
from bard_ray.records import GradeItem, Group, GroupRequest, Rollout, SamplingSpec
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.advantages import has_zero_variance
from bard_ray.rl.assemble import Completion, assemble, prompt_segment
from bard_ray.verify.grade import grade


class Scorer:
    """The reward of a batch, by BARD's own functions.

    Rewards are counted twice, over all groups and over those whose rewards differ.
    """

    def __init__(self, config: Config, prompts: PromptFormat, requests: list[GroupRequest]) -> None:
        self._prompts, self._requests = prompts, requests
        self._reward = make_reward(config.rl.reward)
        self._nothing = prompt_segment(np.zeros(1, np.int32))
        self.all: list[float] = []
        self.varied: list[float] = []

    def __call__(self, completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        """Rewards of all completions, TRL's interface."""
        rewards: list[float] = []
        size = len(self._requests[0].budgets)
        for start in range(0, len(number), size):
            request = self._requests[number[start]]
            group = self._group(request, completion_ids[start : start + size])
            rewarded = self._reward.rewarded(group, BatchStats()).group
            rewards_G = np.asarray(rewarded.rewards_G, np.float32)
            rewards += rewards_G.tolist()
            self.all += rewards_G.tolist()
            self.varied += [] if has_zero_variance(rewards_G) else rewards_G.tolist()
        return rewards

    def _group(self, request: GroupRequest, completions: list[list[int]]) -> Group:
        rollouts = [
            self._rollout(request, i, np.asarray(ids, np.int32))
            for i, ids in enumerate(completions)
        ]
        question = request.question
        verdicts = [
            grade(GradeItem(r.answer_text, question.answer, question.kind)) for r in rollouts
        ]
        return Group(request, tuple(rollouts), tuple(verdicts))

    def _rollout(self, request: GroupRequest, index: int, tokens_T: np.ndarray) -> Rollout:
        zeros = np.zeros(tokens_T.size, np.float32)
        ended = tokens_T.size > 0 and tokens_T[-1] == self._prompts.eos_id
        done = Completion(tokens_T, zeros, zeros.astype(np.int32), "stop" if ended else "length")
        tags, decode = self._prompts.tags, self._prompts.decode
        return assemble(self._nothing, done, request.budgets[index], tags, None, decode)

    def take(self) -> dict[str, float | None]:
        """Mean rewards since the last call."""
        record = {
            "reward_all": float(np.mean(self.all)) if self.all else None,
            "reward": float(np.mean(self.varied)) if self.varied else None,
            "groups_varied": len(self.varied),
        }
        self.all, self.varied = [], []
        return record


def make_requests(config: Config) -> list[GroupRequest]:
    """The groups of the whole run, in the order in which BARD admits them, each with one budget."""
    from actors.stages.rl import request_maker

    make = request_maker(config)
    return [make(n, BatchStats()) for n in range(config.rl.steps * config.rl.prompts_per_step)]


def grpo_settings(config: Config, options: dict[str, Any], directory: str) -> dict[str, Any]:
    """Settings of GRPOConfig: BARD's values where both have one, else the fastest that work."""
    rl, spec = config.rl, SamplingSpec(config.rl.temperature, config.rl.max_new_tokens)
    return {
        "output_dir": directory,
        "use_cpu": True,
        "bf16": options["bf16"],
        "per_device_train_batch_size": rl.prompts_per_step * rl.group_size,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": options["steps_per_generation"],
        "num_generations": rl.group_size,
        "num_iterations": 1,
        "max_steps": rl.steps,
        "max_completion_length": spec.max_new_tokens,
        "temperature": spec.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "beta": 0.0,
        "epsilon": rl.clip_low,
        "epsilon_high": rl.clip_high,
        "loss_type": "dapo",
        "scale_rewards": "group" if rl.std_normalize else "none",
        "learning_rate": rl.lr,
        "lr_scheduler_type": "linear",
        "warmup_steps": rl.warmup_steps,
        "adam_beta1": rl.beta1,
        "adam_beta2": rl.beta2,
        "weight_decay": rl.weight_decay,
        "max_grad_norm": rl.grad_clip,
        "gradient_checkpointing": False,
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": config.run.seed,
    }


def main() -> None:
    """Train, and print one line per update."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from recipes.bard_tiny import config as recipe

    options = json.loads(sys.argv[1])
    torch.set_num_threads(options["threads"])
    config, model = load(recipe(), options["overrides"]), options["model"]
    prompts = load_prompt_format(model, config.student, config.budget.codec)
    requests = make_requests(config)
    scorer = Scorer(config, prompts, requests)

    class Report(TrainerCallback):
        """Time and reward of every update."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            line = {"step": state.global_step, "at": time.monotonic(), **scorer.take()}
            print(json.dumps(line), flush=True)

    def score(completion_ids: list[list[int]], number: list[int], **more: Any) -> list[float]:
        return scorer(completion_ids, number, **more)

    rows = [
        {"prompt": prompts.prompt_text(r.question, r.budgets[0]), "number": i}
        for i, r in enumerate(requests)
    ]
    with tempfile.TemporaryDirectory() as directory:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=GRPOConfig(**grpo_settings(config, options, directory)),
            processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
            train_dataset=Dataset.from_list(rows),
            reward_funcs=score,
            callbacks=[Report()],
        )
        trainer.train()


if __name__ == "__main__":
    main()
