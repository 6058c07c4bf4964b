"""Chat templates built like those of well-known model families, and a tokenizer that reads them.

Structure and traps are theirs, the wording is ours.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AddedToken, PreTrainedTokenizerFast

BOS, EOS = "<|bos|>", "<|im_end|>"
MARKS = (BOS, "<|im_start|>", EOS, "<|user|>", "<|assistant|>", "<|head|>", "<|/head|>", "<|turn|>")

# Hybrid: thinking is open to the model, and an empty thought is written where it is switched off.
# Thoughts of earlier turns are removed. Blanks and line breaks are under manual control.
QWEN3 = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set state = namespace(last_question=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and state.last_question == messages|length - 1 %}
        {%- set state.last_question = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set text = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + text + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- if '</think>' in text and loop.index0 < state.last_question %}
            {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' + text + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
# One line, a leading bos, and a thought that is opened by the template, line break included.
R1 = (
    "{% if add_generation_prompt is not defined %}{% set add_generation_prompt = false %}"
    "{% endif %}{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] %}{% endif %}"
    "{% endfor %}{{ bos_token }}{{ ns.system }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}{% endif %}"
    "{% if message['role'] == 'assistant' and message['content'] is not none %}"
    "{% set content = message['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|assistant|>' + content + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)
# Headers, a leading bos, trimmed contents, a macro and a default; nothing about thinking.
LLAMA = """\
{{- bos_token }}
{%- if not today is defined %}{% set today = '26 Jul 2024' %}{% endif %}
{%- macro header(role) %}{{ '<|head|>' + role + '<|/head|>\\n\\n' }}{% endmacro %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- header('system') + 'Today: ' + today + '\\n\\n' + system_message + '<|im_end|>' }}
{%- for message in messages %}
    {%- if message.role not in ('user', 'assistant') %}
        {{- raise_exception('Only user and assistant turns follow.') }}
    {%- endif %}
    {{- header(message['role']) + message['content'] | trim + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- header('assistant') }}
{%- endif %}
"""
# Thinks only where it is asked to, with a line break after the tag; starts with a blank line.
OPT_IN = """
{% for message in messages %}
<|turn|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|turn|>assistant
{% if enable_thinking is defined and enable_thinking is true %}
<think>
{% else %}
<think>

</think>
{% endif %}
{% endif %}
"""
# The same with another name for the switch, and only the closing tag where it is off.
OTHER_SWITCH = (
    "{% if thinking is not defined %}{% set thinking = false %}{% endif %}{{ bos_token }}"
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if not thinking %}</think>{% else %}<think>{% endif %}{% endif %}"
)
# A switch in the system message, and marks for masks of assistant tokens.
FLAGGED = """\
{%- set flags = namespace(think=true) -%}
{%- for message in messages if message.role == 'system' and '/no_think' in message.content -%}
    {%- set flags.think = false -%}
{%- endfor -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {{ '<|assistant|>' + message.content + '<|im_end|>' }}
        {%- endgeneration -%}
    {%- else -%}
        {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<|assistant|>' if flags.think else '<|assistant|><think>\\n\\n</think>\\n' }}
{%- endif -%}
"""
# No generation prompt at all, blanks before a statement at the end, and two line breaks after it.
BARE = (
    "  {% for message in messages %}{{ message.content }} {% endfor %}\n"
    "   {% if true %} {% endif %}\n\n"
)

TEMPLATES = {
    "qwen3": QWEN3,
    "r1": R1,
    "llama": LLAMA,
    "opt_in": OPT_IN,
    "other_switch": OTHER_SWITCH,
    "flagged": FLAGGED,
    "bare": BARE,
}


def chat_tokenizer(template: str | dict[str, str] | None) -> PreTrainedTokenizerFast:
    """Bytes as tokens, one token a mark and think tag, and a bos unless it is switched off."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(mark) for mark in MARKS])
    core.add_tokens([AddedToken(tag) for tag in ("<think>", "</think>")])
    bos = (BOS, core.token_to_id(BOS))
    core.post_processor = processors.TemplateProcessing(f"{BOS} $A", special_tokens=[bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template=template, bos_token=BOS, eos_token=EOS
    )


def write_tokenizer(
    directory: Path, template: str | dict[str, str], *, in_config: bool = False
) -> Path:
    """Save the tokenizer, its template in a file of its own or in `tokenizer_config.json`."""
    chat_tokenizer(template).save_pretrained(directory, save_jinja_files=not in_config)
    return directory
