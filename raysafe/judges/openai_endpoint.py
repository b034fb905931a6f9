"""A judge behind any OpenAI-compatible endpoint: OpenAI's own, vLLM, llama.cpp, or `raysafe serve`.

Requests are cached by content, limited in rate, and made again after a failure. The client's own retries are off: they
would pass the rate limit by.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import openai

from raysafe.errors import ConfigError, ModelError
from raysafe.judges.cache import AnswerCache, request_key
from raysafe.judges.judge import Capabilities, Messages, check_choices, log_softmax, no_choices
from raysafe.judges.limits import Clock, RateLimit, backoff_s, retry_after_s
from raysafe.judges.reply import Reply, choice_weights, parse_reply

if TYPE_CHECKING:
    from raysafe.judges.spec import JudgeConfig

TOP = 20
"""Most alternatives that the API returns."""
_RETRIED = frozenset({408, 409, 425, 429})


class OpenAIJudge:
    """Picklable: a copy in another process reads the key from that process's environment."""

    def __init__(self, config: JudgeConfig, *, clock: Clock | None = None) -> None:
        """Raises ConfigError where the variable that should hold the key is empty."""
        assert config.base_url is not None  # JudgeConfig checked it
        self.config, self.name = config, config.model
        self._url = config.base_url
        self._clock = clock or Clock()
        self._key = _read_key(config.api_key_env)
        self._limit = RateLimit(config.requests_per_minute, self._clock)
        self._cache = AnswerCache() if config.cache else None
        self._random = Random()
        # connections and semaphores belong to the event loop that they were first used in
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()
        self.capabilities = Capabilities(
            choice_logprobs=config.choice_logprobs,
            deterministic=False,
            concurrent=config.concurrency,
            batch=8 * config.concurrency,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenAIJudge, (self.config,)

    async def generate(
        self, prompts: Sequence[Messages], *, max_tokens: int = 16, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """One answer a prompt; raises ModelError where the endpoint can't be had or refuses."""
        settings = {
            self.config.token_field: max_tokens + self.config.reasoning_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        return [reply.text for reply in await self._ask_all(prompts, settings)]

    async def choice_logprobs(self, prompts: Sequence[Messages], choices: Sequence[str]) -> np.ndarray:
        """log p(choice | prompt), (N, K), from the first token's alternatives; minus infinity for one not among them.

        A row is NaN where none of the choices is. Raises ModelError where the endpoint returns no log-probabilities, or
        where its vocabulary splits a choice that another one begins: 10 would count as 1.
        """
        if not self.config.choice_logprobs:
            raise no_choices(self.name)
        check_choices(choices)
        for longer in (c for c in choices if any(c != other and c.startswith(other) for other in choices)):
            await self._check_whole(longer)
        # at temperature 1 the alternatives are the model's own, whether or not an endpoint scales them
        settings = {self.config.token_field: 1, "temperature": 1.0, "logprobs": True, "top_logprobs": TOP}
        replies = await self._ask_all(prompts, settings)
        weights_NK = np.array([choice_weights(reply, choices) for reply in replies]).reshape(len(prompts), len(choices))
        seen_N = weights_NK.sum(axis=1) > 0
        logps_NK = np.full(weights_NK.shape, np.nan)
        with np.errstate(divide="ignore"):
            logps_NK[seen_N] = log_softmax(np.log(weights_NK[seen_N]))
        return logps_NK

    async def close(self) -> None:
        """End this event loop's connections."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.client.close()

    async def _check_whole(self, choice: str) -> None:
        """Raise ModelError unless the endpoint writes the choice as one token."""
        prompt = [{"role": "user", "content": f"Reply with exactly this and nothing else: {choice}"}]
        settings = {self.config.token_field: 4, "temperature": 0.0, "logprobs": True, "top_logprobs": TOP}
        (reply,) = await self._ask_all([prompt], settings)
        if not reply.tokens or reply.tokens[0].strip() != choice:
            written = " + ".join(map(repr, reply.tokens or ())) or "nothing"
            raise ModelError(
                f"the judge {self.name} writes '{choice}' as {written}, so its beginning can't be told from another "
                "choice: set scale to 'letters', or method to 'generate'"
            )

    async def _ask_all(self, prompts: Sequence[Messages], settings: dict[str, Any]) -> list[Reply]:
        line = self._line()
        tasks = [asyncio.ensure_future(self._ask(line, prompt, settings)) for prompt in prompts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, line: _Line, prompt: Messages, settings: dict[str, Any]) -> Reply:
        request = {"model": self.config.model, "messages": [dict(message) for message in prompt], **settings}
        key = request_key({"url": self._url, **request})
        async with line.places:
            kept = self._cache.find(key) if self._cache else None
            reply = Reply.load(kept) if kept is not None else None
            if reply is None:
                reply = await self._request(line, request)
                if self._cache:
                    self._cache.keep(key, reply.dump())
        return reply

    async def _request(self, line: _Line, request: dict[str, Any]) -> Reply:
        """The reply, after as many failures as are allowed; raises ModelError."""
        for failures in range(1, self.config.retries + 2):
            await self._limit.turn()
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    answer = await line.client.chat.completions.create(**request)
                return parse_reply(answer, self.name, logprobs=bool(request.get("logprobs")))
            except openai.APIStatusError as error:
                problem, wait_s = self._refused(error)
            except (openai.APIConnectionError, TimeoutError) as error:
                slow = isinstance(error, openai.APITimeoutError | TimeoutError)
                cause = error.__cause__ or error
                problem = f"no answer within {self.config.timeout_s:g} s" if slow else f"no connection ({cause})"
                wait_s = None
            except openai.OpenAIError as error:
                raise ModelError(f"{self._place} can't be read ({self._clean(str(error))}): check base_url") from None
            if failures > self.config.retries:
                break
            if wait_s is None:
                await self._clock.sleep(backoff_s(failures, self._random))
            else:
                self._limit.pause(wait_s)
        tried = "1 request" if self.config.retries == 0 else f"{self.config.retries + 1} requests"
        raise ModelError(
            f"{self._place} failed {tried}, the last with {self._clean(problem)}: see to the endpoint, or raise "
            "retries or timeout_s"
        )

    def _refused(self, error: openai.APIStatusError) -> tuple[str, float | None]:
        """(what went wrong, the wait asked for) of a refusal that may pass; raises for one that won't."""
        status, said = error.status_code, self._clean(error.message)
        if status in (401, 403):
            where = f"the key in {self.config.api_key_env}" if self._key else "api_key_env, which is not set"
            raise ConfigError(f"{self._place} refuses access with status {status} ({said}): check {where}") from None
        if status not in _RETRIED and status < 500:
            raise ModelError(f"{self._place} refuses a request with status {status}: {said}") from None
        wait_s = retry_after_s(error.response.headers)
        if wait_s is not None and wait_s > self.config.longest_wait_s:
            raise ModelError(
                f"{self._place} asks to wait {wait_s:g} s, more than longest_wait_s ({self.config.longest_wait_s:g}): "
                "try again later, or raise it"
            ) from None
        return f"status {status} ({said})", wait_s

    @property
    def _place(self) -> str:
        return f"the judge {self.name} at {self._url}"

    def _clean(self, text: str) -> str:
        """One line without the key, whatever the endpoint echoed."""
        shown = text.replace(self._key, "[key]") if self._key else text
        return " ".join(shown.split())[:300].rstrip(".:")

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            self._lines[loop] = _Line(self.config, self._url, self._key)
        return self._lines[loop]


class _Line:
    """Connections, and how many requests may be under way, in one event loop."""

    def __init__(self, config: JudgeConfig, url: str, key: str | None) -> None:
        from raysafe.judges.spec import is_loopback

        self.places = asyncio.Semaphore(config.concurrency)
        # a redirect would carry prompts elsewhere, and a proxy has no business between this machine and itself
        http = openai.DefaultAsyncHttpxClient(
            timeout=config.timeout_s, follow_redirects=False, trust_env=not is_loopback(url)
        )
        # headers left out: the client would take them from variables that are meant for another endpoint
        left_out: Any = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        self.client: Any = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=url,
            max_retries=0,
            timeout=config.timeout_s,
            http_client=http,
            default_headers=left_out,
        )


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {variable} is empty: put the judge's API key there (api_key_env)")
    return key
