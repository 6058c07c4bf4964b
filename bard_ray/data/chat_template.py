"""The chat template a student is trained with and exported with.

Many templates leave the opening think tag to the model, and hybrid ones close it immediately unless
the caller enables thinking. A student is trained on prompts that end in the open think tag, so
`student_templates` rewrites the model's own templates to render such prompts by default. Training
and export use the same result, so they cannot differ.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import jinja2

from bard_ray.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The template that transformers and vLLM use by default.
DEFAULT = "default"
# Exceptions of a template for messages or arguments it does not support.
TEMPLATE_ERRORS = (jinja2.TemplateError, AttributeError, LookupError, TypeError, ValueError)

_NAME = re.compile(r"\w[\w-]*")  # a named template becomes a file of that name
_PROBE = "What is 1+1?"
# Argument names with which hybrid templates enable thinking.
_THINKING_ON = {"enable_thinking": True, "thinking": True}
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")

# Statements before the model's template, which set our arguments. Jinja removes the last line break
# (`trim_blocks`), so the model's template still starts a line.
_HEADER = """\
{#- Thinking is on unless the caller turns it off, and the prompt ends in the open think tag. -#}
{%- set enable_thinking = enable_thinking | default(thinking | default(true)) -%}
{%- set thinking = thinking | default(enable_thinking) %}
"""
# Statements after the model's template, whose output is captured in `bard_prompt`.
_FOOTER = """
{{- bard_prompt -}}
{%- set bard_end = bard_prompt.rstrip() -%}
{%- if add_generation_prompt and enable_thinking and thinking
       and not (bard_end.endswith(@OPEN@) or bard_end.endswith(@CLOSE@)) -%}
    {{- @OPEN@ -}}
{%- endif -%}"""


def student_templates(
    tokenizer: PreTrainedTokenizerBase, think_open: str, think_close: str
) -> dict[str, str]:
    """The tokenizer's templates by name, as a student is trained and exported with them.

    Raises:
        ConfigError: there is none, or its prompts cannot end in the open think tag.
    """
    found = tokenizer.chat_template
    named: dict[str, str] = found if isinstance(found, dict) else {DEFAULT: found}
    _check_names(tokenizer, named)
    templates = {
        name: template
        if _opens_thinking(tokenizer, template, think_open)
        else open_thinking(template, think_open, think_close)
        for name, template in named.items()
    }
    _check_prompt(tokenizer, templates[DEFAULT], think_open)
    return templates


def open_thinking(template: str, think_open: str, think_close: str) -> str:
    """A template whose prompts end in the open think tag.

    The tag follows what `template` renders, unless that ends in a think tag already or the caller
    turns thinking off with `enable_thinking=false` (or `thinking=false`). Without
    `add_generation_prompt` nothing is added.
    """
    # Jinja drops a line break at the end of a source. `{%+` keeps blanks before a statement, which
    # `lstrip_blocks` would remove.
    body = re.sub(r"(\r\n|\r|\n)\Z", "", template)
    footer = _FOOTER.replace("@OPEN@", _literal(think_open))
    footer = footer.replace("@CLOSE@", _literal(think_close))
    prompt = f"{{% set bard_prompt %}}\n{body}{{%+ endset -%}}{footer}"
    if _GENERATION.search(body):
        # Masks of assistant tokens cannot be computed inside a captured block. They are computed
        # without a generation prompt, in which case nothing needs to be captured.
        prompt = f"{{% if add_generation_prompt %}}\n{prompt}{{%- else %}}\n{body}{{%+ endif %}}"
    return _HEADER + prompt


def render(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    messages: list[dict[str, str]],
    **arguments: object,
) -> str:
    """The prompt for the next assistant turn, as text.

    Raises: one of `TEMPLATE_ERRORS`, if the template does not accept the messages.
    """
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
        **cast("dict[str, Any]", arguments),
    )
    return cast("str", text)


def _opens_thinking(tokenizer: PreTrainedTokenizerBase, template: str, think_open: str) -> bool:
    """Whether a template already opens the thinking by default and needs no change."""
    probe = [{"role": "user", "content": _PROBE}]
    try:
        plain = render(tokenizer, template, probe)
        return plain.rstrip().endswith(think_open) and plain == render(
            tokenizer, template, probe, **_THINKING_ON
        )
    except TEMPLATE_ERRORS:
        return False  # of the default one, `_check_prompt` reports it


def _check_names(tokenizer: PreTrainedTokenizerBase, named: dict[str, str]) -> None:
    field, path = "student.path", tokenizer.name_or_path
    if named.get(DEFAULT) is None:
        names = ", ".join(name for name in named if name != DEFAULT)
        rule = f"has chat templates ({names}) but none named {DEFAULT}"
        if not names:
            rule = "has a tokenizer without a chat template"
        fix = "Use a chat model, or add chat_template.jinja to the model directory."
        raise ConfigError(field, path, rule, fix)
    bad = [name for name in named if not _NAME.fullmatch(name)]
    if bad:
        rule = f"has a chat template with the name {bad[0]!r}, which cannot be a file name"
        fix = "Rename it in tokenizer_config.json, using letters, digits, `_` and `-`."
        raise ConfigError(field, path, rule, fix)


def _check_prompt(tokenizer: PreTrainedTokenizerBase, template: str, think_open: str) -> None:
    field, path = "student.path", tokenizer.name_or_path
    try:
        text = render(tokenizer, template, [{"role": "user", "content": _PROBE}])
    except TEMPLATE_ERRORS as error:
        rule = f"has a chat template that cannot render a user message ({error})"
        fix = "Repair its chat template, or use another chat model."
        raise ConfigError(field, path, rule, fix) from error
    if _PROBE not in text:
        rule = "has a chat template that does not show a user message given as plain text"
        fix = "Use a template for text messages (`content` is a string)."
        raise ConfigError(field, path, rule, fix)
    if not text.rstrip().endswith(think_open):
        rule = f"has a chat template whose prompts end in {text[-40:]!r} even with thinking on"
        fix = f"Edit it so that an assistant turn can begin with {think_open}."
        raise ConfigError(field, path, rule, fix)


def _literal(tag: str) -> str:
    """A tag as a Jinja string."""
    return json.dumps(tag, ensure_ascii=False)
