"""Reading what the service answers."""

import pytest

from raysafe.errors import RaySafeError
from raysafe.guards.policy import default_policy
from raysafe.quickstart.grammar import CorpusSize, task_of_prompt, write_corpus
from raysafe.quickstart.service import choose_prompts, read_reply


def test_an_answer_a_stopped_answer_and_a_stopped_request_are_told_apart():
    answer = {"choices": [{"finish_reason": "stop", "message": {"content": "here is how."}}]}
    stopped = {"choices": [{"finish_reason": "content_filter", "message": {"content": "", "refusal": "rule x"}}]}
    refused = {"error": {"code": "content_policy_violation", "message": "rule y"}}
    assert read_reply("q", 200, answer).outcome == "answered"
    assert read_reply("q", 200, stopped).text == "rule x"
    assert read_reply("q", 400, refused).outcome == "request stopped by a guard"


def test_any_other_status_is_an_error_with_the_services_message():
    with pytest.raises(RaySafeError, match=r"answered 401 .* no such key"):
        read_reply("q", 401, {"error": {"code": "invalid_api_key", "message": "no such key"}})


@pytest.mark.parametrize("seed", range(4))
def test_the_demo_asks_something_innocent_something_harmful_and_something_that_a_guard_stops(tmp_path, seed):
    size = CorpusSize(demonstrations=0, preferences=0, held_out_preferences=0)
    prompts = choose_prompts(write_corpus(tmp_path, seed, size)["held_out_prompts"])
    assert [task_of_prompt()[prompt].kind for prompt in prompts] == ["innocent", "harmful", "harmful"]
    pipeline = default_policy().build()
    assert [pipeline.check_text(prompt).action for prompt in prompts] == ["allow", "allow", "block"]
