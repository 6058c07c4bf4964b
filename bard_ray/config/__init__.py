"""Configuration: the schema, loading with dotted overrides, and the checks.

The schema consists of dataclasses; every check runs before an actor starts.
"""

from bard_ray.config.load import load, to_yaml
from bard_ray.config.schema import Config

__all__ = ["Config", "load", "to_yaml"]
