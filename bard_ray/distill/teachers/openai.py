"""Any OpenAI-compatible chat endpoint as a teacher."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from bard_ray.distill.chat import BadBodyError, Tags, explain, is_request_specific, read_completion
from bard_ray.distill.rate_limiter import RateLimiter, backoff_s, retry_after_s
from bard_ray.distill.reply_cache import CachedTeacher, reply_cache_path
from bard_ray.distill.teacher import TEACHERS, Host, Reply, TeacherRequest
from bard_ray.errors import ConfigError, InfrastructureError
from bard_ray.plugins import require_within

_OURS = ("messages", "model", "n", "stream")
_CHARS_PER_TOKEN = 3  # of prompts, on the safe side, until the server has counted
_SEEDS = 2**63
_RETRIED = (408, 409, 429)
_UNPAID = "insufficient_quota"  # comes as a 429, but waiting does not help


@TEACHERS.register("openai")
@dataclass(frozen=True)
class OpenAIBackend:
    """A model behind an OpenAI-compatible chat endpoint, called through the `openai` package.

    Replies are cached on disk, so that a killed run pays for none twice. Retried after
    U(0, min(60, 2^attempt)) seconds, or as long as `Retry-After` says: status 408, 409, 429 and
    5xx, lost connections, timeouts, bodies that are no complete chat completion. Source: ours.

    Attributes:
        model: its name at the endpoint.
        base_url: up to and including `/v1`. `$NAME` stands for an environment variable, so that a
            server that moves keeps its cached replies; a literal address identifies the teacher.
        key_env: name of the environment variable that holds the key; empty: none is sent.
        concurrency: requests in flight.
        requests_per_minute, tokens_per_minute: limits, 0: none. Tokens are estimated before a
            request (prompt and `max_tokens`) and corrected after it.
        timeout_s: of one request, from sending it to the last byte.
        retries: of one request.
        max_wait_s: a server that asks to wait longer than this ends the run.
        prompt_price, completion_price: of a million tokens, in any currency, for `cost`.
        think_open, think_close: think tags, where the thinking is part of the text.
        starts_in_thought: the chat template opens the think tag.
        continues: the server can continue a last assistant message, with vLLM's fields
            `continue_final_message` and `add_generation_prompt`. Its chat template must render that
            message unchanged.
        limit_field: the endpoint's name of the limit, `max_tokens` or `max_completion_tokens`.
        extra_body: further fields of the request; null leaves one out, such as `seed`.
    """

    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = (
        "key_env", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s",
        "retries", "max_wait_s", "prompt_price", "completion_price", "continues", "limit_field",
    )  # fmt: skip

    model: str
    base_url: str
    key_env: str = ""
    concurrency: int = 32
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    timeout_s: float = 1800.0
    retries: int = 8
    max_wait_s: float = 600.0
    prompt_price: float = 0.0
    completion_price: float = 0.0
    think_open: str = "<think>"
    think_close: str = "</think>"
    starts_in_thought: bool = False
    continues: bool = False
    limit_field: str = "max_tokens"
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_within("concurrency", self.concurrency, 1, 1000)
        require_within("timeout_s", self.timeout_s, 0, open_low=True)
        for name in ("requests_per_minute", "tokens_per_minute", "retries", "max_wait_s"):
            require_within(name, getattr(self, name), 0)
        for name in ("prompt_price", "completion_price"):
            require_within(name, getattr(self, name), 0)
        if not isinstance(self.extra_body, Mapping) or set(_OURS) & set(self.extra_body):
            msg = f"extra_body must be a mapping without {', '.join(_OURS)}"
            raise ValueError(msg)

    async def open(self, name: str, host: Host) -> CachedTeacher:
        """Create the client; nothing is sent yet.

        Raises:
            ConfigError: the package, the key or a variable of the address is missing.
        """
        return CachedTeacher(
            ChatTeacher(name, self, self._client(name)), reply_cache_path(host, self)
        )

    def _client(self, name: str) -> Any:
        try:
            import openai
        except ImportError as error:
            rule, fix = "needs the package openai", "pip install 'bard-ray[openai]'"
            raise ConfigError(f"distill.teachers.{name}.backend", "openai", rule, fix) from error
        key = os.environ.get(self.key_env, "") if self.key_env else "none"
        if not key:
            rule, fix = "is not set in the environment", f"export {self.key_env}=..."
            raise ConfigError(f"distill.teachers.{name}.key_env", self.key_env, rule, fix)
        url = os.path.expandvars(self.base_url)
        if not url.startswith(("http://", "https://")) or "$" in url:
            fix = "Write http://HOST:PORT/v1, and export the variables in it."
            raise ConfigError(f"distill.teachers.{name}.base_url", url, "is no address", fix)
        # We retry ourselves: the client's retries cover no bad bodies, counters or full jitter.
        return openai.AsyncOpenAI(base_url=url, api_key=key, timeout=self.timeout_s, max_retries=0)


class _TryAgainError(Exception):
    """One attempt failed in a way that another may not.

    Attributes:
        reason: a fixed word.
        detail: the error message.
        after_s: how long the server asks to wait.
    """

    def __init__(self, reason: str, detail: object, after_s: float = 0.0) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.after_s = reason, detail, after_s


class ChatTeacher:
    """Sends requests to the endpoint, within its limits, until they are answered."""

    def __init__(self, name: str, cfg: OpenAIBackend, client: Any) -> None:
        self._name, self._cfg, self._client = name, cfg, client
        self._tags = Tags(cfg.think_open, cfg.think_close, cfg.starts_in_thought)
        self._slots = asyncio.Semaphore(cfg.concurrency)
        self._requests, self._tokens = (
            RateLimiter(cfg.requests_per_minute),
            RateLimiter(cfg.tokens_per_minute),
        )
        self._draw = random.Random()  # spreads retries, decides no text
        self._counters: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))

    async def reply(self, request: TeacherRequest) -> Reply:
        """One reply, with retries.

        Raises:
            InfrastructureError: no attempt succeeded.
            ConfigError: the endpoint refuses key, model or parameters.
        """
        body = self._body(request)
        self._counters["requests"] += 1
        attempt = 0
        async with self._slots:
            while True:
                try:
                    return await self._attempt(request, body)
                except _TryAgainError as fault:
                    await self._wait(fault, attempt)
                    attempt += 1

    def counters(self) -> Mapping[str, float]:
        """Figures so far.

        `http_requests` were sent for `requests`, `retried_REASON` of them as retries. Replies
        `without_usage` came without token counts, which makes tokens and `cost` too low.
        """
        spent = self._counters["prompt_tokens"] * self._cfg.prompt_price
        spent += self._counters["completion_tokens"] * self._cfg.completion_price
        return {**self._counters, "cost": spent / 1e6}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _attempt(self, request: TeacherRequest, body: dict[str, Any]) -> Reply:
        estimate = request.max_tokens
        estimate += sum(len(turn["content"]) for turn in body["messages"]) // _CHARS_PER_TOKEN
        await self._requests.acquire(1)
        await self._tokens.acquire(estimate)
        self._counters["http_requests"] += 1
        reply, counted = await self._send(request, body)
        failed = reply.finish == "failed"
        if counted or failed:
            self._tokens.refund(estimate - reply.prompt_tokens - reply.completion_tokens)
        self._counters["prompt_tokens"] += reply.prompt_tokens
        self._counters["completion_tokens"] += reply.completion_tokens
        self._counters["failed" if failed else "answered"] += 1
        self._counters["without_usage"] += not counted and not failed
        return reply

    async def _send(self, request: TeacherRequest, body: dict[str, Any]) -> tuple[Reply, bool]:
        """One HTTP request; the reply, and whether its tokens were counted.

        Raises:
            _TryAgainError: another attempt may succeed.
            ConfigError: none will.
        """
        import openai

        rest = {key: value for key, value in body.items() if key not in ("messages", "model")}
        try:
            async with asyncio.timeout(self._cfg.timeout_s):
                answer = await self._client.chat.completions.with_raw_response.create(
                    model=body["model"], messages=body["messages"], extra_body=rest
                )
            return read_completion(answer.text, request, self._tags)
        except (TimeoutError, openai.APITimeoutError):
            raise _TryAgainError("timeout", f"{self._cfg.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise _TryAgainError("connection", error.__cause__ or error) from None
        except BadBodyError as error:
            raise _TryAgainError("bad_body", error) from None
        except openai.APIStatusError as error:
            return self._refused(error.status_code, error.body, error.response.headers)

    def _refused(self, status: int, body: object, headers: Mapping[str, str]) -> tuple[Reply, bool]:
        code, message = explain(body, self._client.api_key if self._cfg.key_env else "")
        if (status in _RETRIED or status >= 500) and code != _UNPAID:
            raise _TryAgainError(str(status), message, retry_after_s(headers))
        if is_request_specific(status, code, message):
            return Reply("", "", "failed", f"{status} {code}: {message}"), False
        self._refuse(status, message)

    def _refuse(self, status: int, message: str) -> NoReturn:
        """Report that the endpoint does not accept these parameters.

        Raises:
            ConfigError: always.
        """
        name, fix = _FIELD_AND_FIX.get(status, _FIELD_AND_FIX[400])
        value, rule = getattr(self._cfg, name), f"refused with status {status} ({message})"
        raise ConfigError(f"distill.teachers.{self._name}.{name}", value, rule, fix)

    async def _wait(self, fault: _TryAgainError, attempt: int) -> None:
        """Wait before the next attempt.

        Raises:
            InfrastructureError: no attempt is left, or the server asks to wait too long.
        """
        last = f"{self._client.base_url}: the last error was {fault.reason} ({fault.detail})"
        if attempt >= self._cfg.retries:
            msg = f"teacher {self._name} gave no answer in {attempt + 1} attempts; {last}."
            raise InfrastructureError(f"{msg} {_RESUME}")
        if fault.after_s > self._cfg.max_wait_s:
            msg = f"teacher {self._name} asks to wait for {fault.after_s:.0f} s; {last}."
            raise InfrastructureError(f"{msg} {_RESUME}")
        self._counters[f"retried_{fault.reason}"] += 1
        self._requests.pause(fault.after_s)  # `Retry-After` concerns all requests, not only this
        await asyncio.sleep(fault.after_s + backoff_s(attempt, self._draw))

    def _body(self, request: TeacherRequest) -> dict[str, Any]:
        """Fields of the HTTP request; for a think prefix, those of vLLM (see `continues`).

        Raises:
            ConfigError: the request has a think prefix and the endpoint cannot continue one.
        """
        messages = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        continuation: dict[str, Any] = {}
        if request.think is not None:
            self._require_continues()
            close = self._cfg.think_close if request.close_think else ""
            prefix = f"{self._cfg.think_open}{request.think}{close}"
            messages.append({"role": "assistant", "content": prefix})
            continuation = {"continue_final_message": True, "add_generation_prompt": False}
        body = {
            "model": self._cfg.model,
            "messages": messages,
            self._cfg.limit_field: request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed % _SEEDS,
            **continuation,
            **self._cfg.extra_body,
        }
        return {key: value for key, value in body.items() if value is not None}

    def _require_continues(self) -> None:
        if not self._cfg.continues:
            rule = "must be on for requests with a think prefix"
            fix = "Turn it on for a vLLM server; other endpoints cannot continue a think prefix."
            raise ConfigError(f"distill.teachers.{self._name}.continues", False, rule, fix)


_COUNTERS = (
    "requests", "http_requests", "answered", "failed", "without_usage", "prompt_tokens",
    "completion_tokens",
)  # fmt: skip
_RESUME = "Replies so far are stored; the same command resumes."
_FIELD_AND_FIX = {
    400: ("extra_body", "Change the request: max_tokens, limit_field, or extra_body."),
    401: ("key_env", "Export a valid key, and name its variable in key_env."),
    402: ("key_env", "The account of this key has no credit."),
    403: ("key_env", "The key may not use this model."),
    404: ("model", "Check model and base_url; the address usually ends with /v1."),
    429: ("key_env", "The account of this key has no credit."),
}
