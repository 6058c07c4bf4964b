"""What a plug-in of the data pipeline declares about itself, as attributes of its class.

The pipeline, the configuration check and the placement plan read these attributes and know no
plug-in by name, so a user's own plug-in is checked and served like a built-in one:

    @dataclass(frozen=True)
    class Hardest:
        REQUIRES: ClassVar[tuple[str, ...]] = ("pass_rate",)
        COMPARES_QUESTIONS: ClassVar[bool] = True
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass

from bard_ray.distill.filter import Candidate
from bard_ray.errors import ConfigError

# What the output of a step can depend on, besides its records and its parameters.
FINGERPRINT_INPUTS = (
    "seed",
    "teacher",
    "writer",
    "student",
    "tokenizer",
    "evaluation",
    "budgets",
    "grading",
)
ROLES = ("teacher", "student", "verifier", "reference", "writer")


@dataclass(frozen=True, slots=True)
class Traits:
    """Declarations of one plug-in; `REQUIRES` of its class is `requires` here, and so on.

    A class that leaves an attribute out has the default.

    Attributes:
        requires: fields of `Candidate` that a step, filter or compressor reads and that an earlier
            step has to fill. `think` stands for the whole chain, which data sets may bring along.
        adds: fields of `Candidate` that a step fills. A step that adds `think` writes new chains:
            what earlier steps put into the other fields is gone.
        roles: what a step or compressor asks its tools for. `student` starts the student's rollout
            workers, `verifier` and `reference` those workers; `teacher` and `writer` are entries of
            `distill.teachers`, which then must exist.
        depends_on: members of `FINGERPRINT_INPUTS` that the output of a step depends on; a change
            of one of them recomputes it. A filter that leaves it out depends on `evaluation` alone,
            and one that declares others depends on them too.
        not_fingerprinted: parameters that do not change the output, such as speed and retries.
        compares_questions: a filter must see all records at once; otherwise it sees a few hundred
            questions at a time, each with all of its chains.
        synthetic_only: works with `data.source=chain` only.
        reports_diversity: the data report compares the chains that this filter keeps with random
            ones.
    """

    requires: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = FINGERPRINT_INPUTS
    not_fingerprinted: tuple[str, ...] = ()
    compares_questions: bool = False
    synthetic_only: bool = False
    reports_diversity: bool = False

    @classmethod
    def of(cls, plugin: object) -> Traits:
        """Declarations of a plug-in or of its class.

        Raises:
            ConfigError: an attribute has the wrong type or holds an unknown name.
        """
        kind = plugin if isinstance(plugin, type) else type(plugin)
        declared = {
            field.name: getattr(kind, field.name.upper())
            for field in fields(cls)
            if hasattr(kind, field.name.upper())
        }
        for name, value in declared.items():
            _check(kind, name, value)
        return cls(**declared)


def _check(kind: type, name: str, value: object) -> None:
    field = f"{kind.__module__}:{kind.__qualname__}.{name.upper()}"
    if isinstance(getattr(Traits(), name), bool):
        if not isinstance(value, bool):
            raise ConfigError(field, value, "must be True or False", "Set it to one of them.")
        return
    known = _known(kind, name)
    none = "" if known else f"Leave it out: {kind.__qualname__} has no parameters."
    if not isinstance(value, tuple):
        fix = none or f'For example {name.upper()} = ("{known[0]}",).'
        raise ConfigError(field, value, "must be a tuple of names", fix)
    unknown = [entry for entry in value if entry not in known]
    if unknown:
        fix = none or f"Use some of {', '.join(known)}."
        raise ConfigError(field, value, f"holds {unknown[0]!r}, which is unknown", fix)


def _known(kind: type, name: str) -> list[str]:
    """Names that a declaration may hold."""
    if name == "roles":
        return list(ROLES)
    if name == "depends_on":
        return list(FINGERPRINT_INPUTS)
    source = kind if name == "not_fingerprinted" else Candidate
    return [field.name for field in fields(source)] if is_dataclass(source) else []
