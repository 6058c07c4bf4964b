"""Prompts and completions of a student as token ids.

Only this module combines chat template, budget text and think tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from bard_ray.budget.codec import BudgetCodec, CodecName, make_codec
from bard_ray.budget.span import ThinkTags
from bard_ray.config.schema import StudentConfig
from bard_ray.data.chat_template import DEFAULT, TEMPLATE_ERRORS, render, student_templates
from bard_ray.errors import ConfigError, DataError
from bard_ray.model_files import custom_code_refused
from bard_ray.records import Budget, DistillRow, Ints, Question, ThinkPrefix, budget_label

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptFormat:
    """Turns questions and chains into token ids, the same way for training and for sampling.

    Attributes:
        close_id: id of the closing think tag; the thinking span ends at its first occurrence.
        eos_id: id that ends a completion.
        tags: both ids, and the id of the opening think tag if it has one.
        templates: chat templates by name. Prompts are rendered with the default one; an exported
            student contains all of them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        codec: BudgetCodec,
        think_open: str,
        think_close: str,
    ) -> None:
        self.tokenizer = tokenizer
        self.codec = codec
        self.think_open, self.think_close = think_open, think_close
        self.close_id = self._single_id(think_close)
        self.eos_id = self._eos_id()
        self.tags = ThinkTags(self.close_id, self._open_id(), self.eos_id)
        self.templates = student_templates(tokenizer, think_open, think_close)

    def messages(
        self, question: Question, budget: Budget, show_budget: bool = True
    ) -> list[dict[str, str]]:
        """The question's conversation, with the budget after the last user message.

        Raises:
            ConfigError: the codec cannot write this budget.
            DataError: the question has no user message.
        """
        turns = [{"role": m.role, "content": m.content} for m in question.messages]
        users = [turn for turn in turns if turn["role"] == "user"]
        if not users:
            raise DataError(
                question.source, f"question {question.id} has no user message", "Add one.", turns
            )
        if show_budget:
            users[-1]["content"] += self._budget_text(budget)
        return turns

    def prompt_text(self, question: Question, budget: Budget, show_budget: bool = True) -> str:
        """The prompt as text: `messages` in the chat template, ending in the open think tag.

        Raises:
            ConfigError: the codec cannot write this budget.
            DataError: the question has no user message, or the chat template does not accept its
                messages.
        """
        turns = self.messages(question, budget, show_budget)
        try:
            text = render(self.tokenizer, self.templates[DEFAULT], turns)
        except TEMPLATE_ERRORS as error:
            problem = f"the chat template cannot render question {question.id} ({error})"
            fix = "Change its messages or the student's chat template."
            raise DataError(question.source, problem, fix, turns) from error
        if not text.rstrip().endswith(self.think_open):
            end = f"{text[-40:]!r}, not in an open {self.think_open}"
            problem = f"the prompt of question {question.id} ends in {end}"
            fix = "Remove what switches the thinking off from its messages, or remove the question."
            raise DataError(question.source, problem, fix, turns)
        return text

    def prompt_ids(self, question: Question, budget: Budget, show_budget: bool = True) -> Ints:
        """The prompt as token ids (T,). Raises as `prompt_text` does."""
        return self._tokenize([self.prompt_text(question, budget, show_budget)])[0]

    def completion_ids(self, think_text: str, answer_text: str) -> Ints:
        """Thinking, closing tag, answer, eos as token ids (T,)."""
        return self._completions([(think_text, answer_text)])[0]

    def prefix_ids(self, prefix: ThinkPrefix) -> Ints:
        """A think prefix as token ids (T,), including the closing tag if it is closed."""
        ids_T = self._tokenize([prefix.text])[0]
        return np.append(ids_T, np.int32(self.close_id)) if prefix.closed else ids_T

    def token_ends(self, texts: Sequence[str]) -> list[tuple[Ints, Ints]]:
        """Token ids of every text, and the character offset at which each ends; (T,) each.

        Raises:
            ConfigError: the tokenizer gives no text offsets.
        """
        if not texts:
            return []
        name = self.tokenizer.name_or_path
        if not self.tokenizer.is_fast:
            fix = "Use a model with a tokenizer.json."
            raise ConfigError("student.path", name, "its tokenizer gives no text offsets", fix)
        batch = self.tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [
            (np.asarray(ids, np.int32), np.asarray([end for _, end in offsets], np.int32))
            for ids, offsets in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        ]

    def row_ids(self, rows: Sequence[DistillRow]) -> list[tuple[Ints, Ints]]:
        """Prompt and completion ids of every row, tokenized in batches.

        Raises as `prompt_text` does.
        """
        texts = [self.prompt_text(row.question, row.budget) for row in rows]
        completions = self._completions([(row.think, row.answer_text) for row in rows])
        return list(zip(self._tokenize(texts), completions, strict=True))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in tokens of this student."""
        return [ids_T.size for ids_T in self._tokenize(texts)]

    def text_ids(self, texts: Sequence[str]) -> list[Ints]:
        """Token ids of each text (T,), nothing added."""
        return self._tokenize(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids without eos, padding and other special tokens; think tags stay."""
        text = self.tokenizer.decode(
            [int(number) for number in ids],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return cast("str", text)

    def _budget_text(self, budget: Budget) -> str:
        try:
            return self.codec.encode(budget)
        except ValueError as error:
            name = type(self.codec).__name__.removesuffix("Codec").lower()
            raise ConfigError(
                "budget.codec",
                name,
                f"cannot write the budget {budget_label(budget)}: {error}",
                "Use budget.codec=sentence, or smaller budgets.",
            ) from error

    def _completions(self, pairs: Sequence[tuple[str, str]]) -> list[Ints]:
        # Joined as ids, so that the closing tag is one token after any text.
        thinks = self._tokenize([think for think, _ in pairs])
        answers = self._tokenize([answer for _, answer in pairs])
        close_T, eos_T = np.array([self.close_id], np.int32), np.array([self.eos_id], np.int32)
        return [
            np.concatenate([t, close_T, a, eos_T]) for t, a in zip(thinks, answers, strict=True)
        ]

    def _tokenize(self, texts: Sequence[str]) -> list[Ints]:
        if not texts:
            return []
        unique = list(dict.fromkeys(texts))  # answers repeat a lot
        batch = self.tokenizer(
            unique,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids = {
            text: np.asarray(ids, np.int32)
            for text, ids in zip(unique, batch["input_ids"], strict=True)
        }
        return [ids[text] for text in texts]

    def _single_id(self, tag: str) -> int:
        ids_T = self._tokenize([tag])[0]
        if ids_T.size != 1 or ids_T[0] == self.tokenizer.unk_token_id:
            raise ConfigError(
                "student.think_close",
                tag,
                f"must be one token of the student's tokenizer, not {ids_T.size}",
                "Name the tag the model was trained with, or add it to the tokenizer as one token.",
            )
        return int(ids_T[0])

    def _open_id(self) -> int | None:
        """Id of the opening tag; None if it is several tokens, since prompts need only its text."""
        ids_T = self._tokenize([self.think_open])[0]
        single = ids_T.size == 1 and ids_T[0] != self.tokenizer.unk_token_id
        return int(ids_T[0]) if single else None

    def _eos_id(self) -> int:
        eos_id = self.tokenizer.eos_token_id
        if not isinstance(eos_id, int):
            raise ConfigError(
                "student.path",
                self.tokenizer.name_or_path,
                "has a tokenizer without an end-of-sequence token",
                "Set eos_token in its tokenizer_config.json.",
            )
        return eos_id


def load_prompt_format(
    model_path: str, student: StudentConfig, codec_name: CodecName
) -> PromptFormat:
    """Prompt format of a model directory or hub id.

    Raises:
        ConfigError: the tokenizer cannot be read, needs code that is not trusted, lacks a usable
            chat template or eos, or splits the closing tag.
    """
    from transformers import AutoTokenizer

    try:
        with custom_code_refused(model_path):
            tokenizer = AutoTokenizer.from_pretrained(
                model_path, revision=student.revision, trust_remote_code=student.trust_remote_code
            )
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            "student.path",
            model_path,
            f"has no tokenizer that can be read ({reason})",
            "Give a Hugging Face model directory or hub id.",
        ) from error
    return PromptFormat(tokenizer, make_codec(codec_name), student.think_open, student.think_close)
