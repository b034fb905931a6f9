"""The endpoint judge against a server that counts: cache, retries, rate, log-probabilities; the key never leaks."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.responses import HTMLResponse, RedirectResponse

from raysafe.errors import ConfigError, ModelError, RaySafeError
from raysafe.judges.compare import compare
from raysafe.judges.openai_endpoint import OpenAIJudge
from raysafe.judges.rubric import score_answers
from raysafe.judges.spec import JudgeConfig
from tests.judges.endpoint import KEY, Endpoint, FakeClock, failing, serve, serve_app
from tests.serving.conftest import Scripted, make_desk

pytestmark = pytest.mark.serve

ASK = [{"role": "user", "content": "How good is it?"}]
PROMPTS = [[{"role": "user", "content": f"question {i}"}] for i in range(6)]


@pytest.fixture(scope="module")
def running() -> Iterator[Endpoint]:
    with serve(Endpoint()) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(running: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    running.reset()
    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return running


def judge_at(endpoint: Endpoint, clock: FakeClock | None = None, **settings: Any) -> OpenAIJudge:
    config = JudgeConfig(
        kind="openai", model="small", base_url=endpoint.url, **{"api_key_env": "JUDGE_KEY", **settings}
    )
    return OpenAIJudge(config, clock=clock or FakeClock())


def generate(judge: OpenAIJudge, prompts: list[Any] = PROMPTS, **settings: Any) -> list[str]:
    async def work() -> list[str]:
        try:
            return await judge.generate(prompts, **settings)
        finally:
            await judge.close()

    return asyncio.run(work())


def weigh(judge: OpenAIJudge, choices: list[str]) -> np.ndarray:
    async def work() -> np.ndarray:
        try:
            return await judge.choice_logprobs([ASK], choices)
        finally:
            await judge.close()

    return asyncio.run(work())


def echo(body: dict[str, Any]) -> str:
    return f"answer to {body['messages'][-1]['content']}"


def test_answers_come_in_the_order_of_the_prompts(endpoint: Endpoint) -> None:
    endpoint.script = echo
    assert generate(judge_at(endpoint, concurrency=3)) == [f"answer to question {i}" for i in range(6)]


def test_what_was_asked_before_makes_no_request(endpoint: Endpoint) -> None:
    endpoint.script = echo
    first = generate(judge_at(endpoint))
    assert len(endpoint.requests) == 6
    endpoint.script = lambda body: "changed"
    assert generate(judge_at(endpoint)) == first, "another judge of the same settings finds them"
    assert len(endpoint.requests) == 6
    generate(judge_at(endpoint), seed=1)
    assert len(endpoint.requests) == 12, "another seed is another question"


def test_without_the_cache_every_question_is_a_request(endpoint: Endpoint) -> None:
    for _ in range(2):
        generate(judge_at(endpoint, cache=False), [ASK])
    assert len(endpoint.requests) == 2


def test_a_broken_cache_file_is_asked_for_again(endpoint: Endpoint, tmp_path: Path) -> None:
    generate(judge_at(endpoint), [ASK])
    (kept,) = tmp_path.rglob("*.json")
    for damage in ('{"text": "7', "[]", '{"text": null}'):
        kept.write_text(damage)
        assert generate(judge_at(endpoint), [ASK]) == ["7"]
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_failures_that_may_pass_are_tried_again_with_growing_waits(endpoint: Endpoint, status: int) -> None:
    endpoint.script, clock = failing(status, 3), FakeClock()
    assert generate(judge_at(endpoint, clock), [ASK]) == ["7"]
    assert len(endpoint.requests) == 4
    for wait, whole in zip(clock.slept, (0.5, 1, 2), strict=True):
        assert 0.75 * whole <= wait <= whole


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(endpoint: Endpoint, status: int) -> None:
    endpoint.script, clock = failing(status, 1, {"Retry-After": "17"}), FakeClock()
    assert generate(judge_at(endpoint, clock), [ASK]) == ["7"]
    assert clock.slept == [17]


def test_a_longer_retry_after_than_allowed_is_an_error(endpoint: Endpoint) -> None:
    endpoint.script = failing(429, 9, {"Retry-After": "600"})
    with pytest.raises(ModelError, match=r"asks to wait 600 s, more than longest_wait_s \(120\)"):
        generate(judge_at(endpoint), [ASK])
    assert len(endpoint.requests) == 1


def test_retries_are_bounded_and_what_succeeded_is_kept(endpoint: Endpoint) -> None:
    endpoint.script = lambda body: "7" if "0" in body["messages"][0]["content"] else failing(500, 1)(body)
    with pytest.raises(ModelError, match=r"failed 3 requests, the last with status 500 \(.*no"):
        generate(judge_at(endpoint, retries=2), PROMPTS[:2])
    asked = len(endpoint.requests)
    assert generate(judge_at(endpoint), PROMPTS[:1]) == ["7"] and len(endpoint.requests) == asked


def test_a_refusal_that_will_not_pass_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.script = failing(400, 9, message="no such model")
    with pytest.raises(ModelError, match=r"refuses a request with status 400: .*no such model"):
        generate(judge_at(endpoint), [ASK])
    assert len(endpoint.requests) == 1


def test_requests_start_no_faster_than_the_rate(endpoint: Endpoint) -> None:
    clock = FakeClock()
    starts: list[float] = []

    def script(body: dict[str, Any]) -> str:
        starts.append(clock.now())
        return "7"

    endpoint.script = script
    generate(judge_at(endpoint, clock, requests_per_minute=30, concurrency=1))
    assert np.diff(starts) == pytest.approx(2.0)


def test_no_more_requests_are_under_way_than_allowed(endpoint: Endpoint) -> None:
    judge = judge_at(endpoint, concurrency=2)
    generate(judge, [ASK])
    under_way, most = 0, 0
    request = judge._request

    async def counted(*args: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await request(*args)
        finally:
            under_way -= 1

    judge._request = counted  # type: ignore[method-assign]
    generate(judge)
    assert most == 2


def test_the_limit_has_room_to_reason_and_the_endpoints_name(endpoint: Endpoint) -> None:
    generate(judge_at(endpoint, token_field="max_completion_tokens", reasoning_tokens=100), [ASK], max_tokens=16)
    (request,) = endpoint.requests
    assert request["max_completion_tokens"] == 116 and "max_tokens" not in request


def test_a_redirect_carries_no_prompt_elsewhere(endpoint: Endpoint) -> None:
    with serve(Endpoint()) as other:
        endpoint.script = lambda body: RedirectResponse(f"{other.url}/chat/completions")
        with pytest.raises(ModelError, match="refuses a request with status 307"):
            generate(judge_at(endpoint, retries=0), [ASK])
        assert other.requests == []


def test_no_proxy_stands_between_this_machine_and_itself(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert generate(judge_at(endpoint, retries=0), [ASK]) == ["7"]


def test_two_endpoints_share_no_answers(endpoint: Endpoint) -> None:
    generate(judge_at(endpoint), [ASK])
    with serve(Endpoint()) as other:
        other.script = lambda body: "3"
        assert generate(judge_at(other), [ASK]) == ["3"]


def test_kept_answers_are_for_their_owners_eyes(endpoint: Endpoint, tmp_path: Path) -> None:
    generate(judge_at(endpoint), [ASK])
    (kept,) = (tmp_path / "cache").rglob("*.json")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_endpoint_that_is_not_there_is_one_sentence(endpoint: Endpoint) -> None:
    config = JudgeConfig(kind="openai", model="small", base_url="http://127.0.0.1:9/v1", retries=1)
    with pytest.raises(
        ModelError, match=r"the judge small at http://127\.0\.0\.1:9/v1 failed 2 requests, .*no connection"
    ):
        generate(OpenAIJudge(config, clock=FakeClock()), [ASK])


def test_a_silent_endpoint_is_given_up_after_the_timeout(endpoint: Endpoint) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(silence, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        config = JudgeConfig(kind="openai", model="small", base_url=url, retries=0, timeout_s=0.05)
        judge = OpenAIJudge(config, clock=FakeClock())
        try:
            await judge.generate([ASK])
        finally:
            await judge.close()
            server.close()

    with pytest.raises(ModelError, match=r"failed 1 request, the last with no answer within 0\.05 s"):
        asyncio.run(work())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (HTMLResponse("<html>hello</html>"), "returned no chat completion|can't be read"),
        (RedirectResponse("http://127.0.0.1:9/elsewhere"), "refuses a request with status 307"),
    ],
)
def test_what_is_no_completion_is_an_error(endpoint: Endpoint, answer: Any, message: str) -> None:
    endpoint.script = lambda body: answer
    with pytest.raises(ModelError, match=message):
        generate(judge_at(endpoint, retries=0), [ASK])


def test_choice_logprobs_are_the_first_tokens_normalised_over_the_choices(endpoint: Endpoint) -> None:
    endpoint.alternatives = {"A": 0.3, " A": 0.1, "B": 0.1, "The": 0.4}
    logps = weigh(judge_at(endpoint, choice_logprobs=True), ["A", "B", "C"])
    assert np.exp(logps[0]) == pytest.approx([0.8, 0.2, 0.0])
    assert endpoint.requests[0]["max_tokens"] == 1 and endpoint.requests[0]["top_logprobs"] == 20


def test_a_cached_choice_is_the_same_and_makes_no_request(endpoint: Endpoint) -> None:
    endpoint.alternatives = {"A": 0.3, "B": 0.1}
    first = weigh(judge_at(endpoint, choice_logprobs=True), ["A", "B"])
    endpoint.alternatives = {"A": 0.1, "B": 0.3}
    np.testing.assert_array_equal(weigh(judge_at(endpoint, choice_logprobs=True), ["A", "B"]), first)
    assert len(endpoint.requests) == 1


def test_an_endpoint_without_logprobs_is_an_error_in_one_sentence(endpoint: Endpoint) -> None:
    with pytest.raises(ModelError, match="returns no log-probabilities: set choice_logprobs to false"):
        weigh(judge_at(endpoint, choice_logprobs=True), ["A", "B"])
    with pytest.raises(ModelError, match="doesn't give log-probabilities"):
        weigh(judge_at(endpoint), ["A", "B"])


def test_an_answer_that_is_none_of_the_choices_is_unscored(endpoint: Endpoint) -> None:
    endpoint.alternatives = {"The": 0.9}
    judge = judge_at(endpoint, choice_logprobs=True)
    assert np.isnan(weigh(judge, ["A", "B"])).all()
    verdict = asyncio.run(compare(judge_at(endpoint, choice_logprobs=True), ASK, "x", "y"))
    assert np.isnan(verdict.preference) and verdict.unparsable == 2 and not verdict.consistent


def test_scores_are_expected_values_where_ten_is_one_token(endpoint: Endpoint) -> None:
    endpoint.script = lambda body: "10"
    endpoint.alternatives = {"10": 0.5, "1": 0.1, "7": 0.2}
    (score,) = asyncio.run(score_answers(judge_at(endpoint, choice_logprobs=True), [ASK], ["x"]))
    assert score.scores["honesty"] == pytest.approx((10 * 0.5 + 1 * 0.1 + 7 * 0.2) / 0.8)
    assert score.method == "choice_logprobs"


def test_a_vocabulary_that_splits_ten_is_an_error_and_letters_are_the_remedy(endpoint: Endpoint) -> None:
    endpoint.script, endpoint.tokens = lambda body: "10", ["1", "0"]
    endpoint.alternatives = {"1": 0.9, "K": 0.05, "A": 0.05}
    judge = judge_at(endpoint, choice_logprobs=True)
    with pytest.raises(ModelError, match=r"writes '10' as '1' \+ '0'.*set scale to 'letters'"):
        asyncio.run(score_answers(judge, [ASK], ["x"]))
    (score,) = asyncio.run(score_answers(judge_at(endpoint, choice_logprobs=True), [ASK], ["x"], scale="letters"))
    assert score.mean == pytest.approx(5.0)


def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    endpoint: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    judge = judge_at(endpoint, retries=1)
    generate(judge)
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    shown = [caplog.text, repr(judge), judge.config.to_yaml(), repr(pickle.dumps(judge))]
    for status in (401, 400, 500):
        endpoint.script = failing(status, 9, message=f"bad key {KEY}")
        with pytest.raises(RaySafeError) as caught:
            generate(judge, [[{"role": "user", "content": f"status {status}"}]])
        shown.append("".join(traceback.format_exception(caught.value)))
        assert "[key]" in str(caught.value)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6 and all(KEY not in path.read_text() for path in files)
    assert all(KEY not in text for text in [*shown, caplog.text])


def test_a_refused_key_names_its_variable(endpoint: Endpoint) -> None:
    endpoint.script = failing(401, 9)
    with pytest.raises(ConfigError, match=r"refuses access with status 401 .*check the key in JUDGE_KEY"):
        generate(judge_at(endpoint), [ASK])
    with pytest.raises(ConfigError, match="check api_key_env, which is not set"):
        generate(judge_at(endpoint, api_key_env=None), [ASK])


def test_an_empty_key_variable_is_refused_before_any_request(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ConfigError, match="JUDGE_KEY is empty"):
        judge_at(endpoint)


def test_variables_of_the_client_are_not_sent_to_another_endpoint(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-openai-only")
    generate(judge_at(endpoint, api_key_env=None), [ASK])
    assert "of-openai-only" not in json.dumps(endpoint.headers)


def test_a_copy_in_another_process_reads_the_key_there(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(judge_at(endpoint))
    monkeypatch.setenv("JUDGE_KEY", "sk-other")
    generate(pickle.loads(sent), [ASK])
    assert endpoint.headers[0]["authorization"] == "Bearer sk-other"


def test_one_judge_works_in_one_event_loop_after_another(endpoint: Endpoint) -> None:
    judge = judge_at(endpoint)
    assert [generate(judge, [prompt]) for prompt in PROMPTS[:3]] == [["7"]] * 3


def test_a_raysafe_service_is_a_judge(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make_desk(Scripted("8"), {"name": "open", "guards": []})
    monkeypatch.setenv("JUDGE_KEY", desk.secret)
    with serve_app(desk.app) as url:
        config = JudgeConfig(kind="openai", model="m", base_url=url, api_key_env="JUDGE_KEY", retries=0)
        (score,) = asyncio.run(score_answers(OpenAIJudge(config), [ASK], ["Fine."]))
    assert score.mean == 8 and score.compliant and score.method == "generate"
    asked = desk.backend.prompts[0].messages[-1].content
    assert "Fine." in asked and asked.endswith("nothing else.")
