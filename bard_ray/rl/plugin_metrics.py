"""Metrics that the plug-ins of an RL run declare, in addition to `bard_ray.metrics.TABLE`."""

from __future__ import annotations

from bard_ray.config.schema import RLConfig
from bard_ray.learn.correction import CORRECTIONS
from bard_ray.metrics import Metric, own_metrics
from bard_ray.rewards.reward import REWARDS


def declared_metrics(rl: RLConfig) -> dict[str, Metric]:
    """The declared metrics by full name: `reward/<name>` and `correction/<name>`.

    Raises:
        ConfigError: there is no such reward or correction.
    """
    plugins = {
        "reward": REWARDS.find(rl.reward.name),
        "correction": CORRECTIONS.find(rl.correction.name),
    }
    return {
        f"{kind}/{name}": metric
        for kind, plugin in plugins.items()
        for name, metric in own_metrics(plugin).items()
    }
