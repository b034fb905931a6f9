"""Frames scored by an endpoint that really decodes them and measures a planted property: how red they are."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from raysafe.errors import ConfigError, ModelError, TrainingError
from raysafe.rl.environment import EnvMaker
from raysafe.rl.extension import TRUE_REWARD
from raysafe.rl.judge_reward import JudgeRewardConfig
from raysafe.rl.judged_env import JUDGED, FrameJudge, JudgeReward, png_of, read_score


class Corridor(gym.Env):
    """Ten cells to the right; a frame is as red, in tenths, as the agent is far. Each step earns -1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.at = render_mode, 0
        self.observation_space, self.action_space = gym.spaces.Discrete(11), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.at = 0
        return self.at, {}

    def step(self, action: Any) -> Any:
        self.at += int(action)
        return self.at, -1.0, self.at == 10, False, {}

    def render(self) -> Any:
        frame_HWC = np.zeros((10, 10, 3), dtype=np.uint8)
        frame_HWC[: self.at, :, 0] = 255
        return frame_HWC


@dataclass
class Endpoint:
    """Answers the share of red pixels in tenths; `say` overrules it, `fail` is a status."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    say: str | None = None
    fail: int | None = None

    def answer(self, request: dict[str, Any]) -> str:
        text, image = request["messages"][0]["content"]
        self.asked.append(text["text"])
        kind, _, data = image["image_url"]["url"].partition(",")
        assert kind == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        return self.say or f"{10 * (pixels[..., 0] == 255).mean():g}"


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / "cache"))
    desk = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": desk.answer(request)}
            body = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()
            self.send_response(desk.fail or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    desk.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield desk
    server.shutdown()
    thread.join()
    server.server_close()


def config(endpoint: Endpoint, **change: Any) -> JudgeRewardConfig:
    judge = {"kind": "openai", "model": "eyes", "base_url": endpoint.url, "retries": 0}
    return JudgeRewardConfig.parse({"judge": judge, "question": "How red is it?", "every": 3, "budget": 50, **change})


def applied(settings: JudgeRewardConfig) -> tuple[JudgeReward, EnvMaker]:
    """The extension, and the maker that a training has with it."""
    held = SimpleNamespace(env_config={"maker": EnvMaker(f"{__name__}:Corridor")})
    held.environment = lambda env_config: held.__dict__.update(env_config=env_config)
    extension = settings.extension(SimpleNamespace(sampling=SimpleNamespace(runners=0)))  # type: ignore[arg-type]
    extension.apply(held)  # type: ignore[arg-type]
    return extension, held.env_config["maker"]


def rewards(env: gym.Env, actions: list[int]) -> list[tuple[float, dict[str, Any]]]:
    env.reset()
    return [(float(reward), info) for _, reward, _, _, info in (env.step(action) for action in actions)]


def test_frames_are_scored_by_what_they_show_at_the_stated_interval(endpoint: Endpoint) -> None:
    _, maker = applied(config(endpoint, weight=2.0))
    found = rewards(maker.make(), [1] * 10)
    # after 3, 6 and 9 steps, and at the end
    assert [reward for reward, _ in found] == pytest.approx([-1, -1, -0.4, -1, -1, 0.2, -1, -1, 0.8, 1.0])
    assert [info.get(JUDGED) for _, info in found][2:6] == [0.3, None, None, 0.6]
    assert {info[TRUE_REWARD] for _, info in found} == {-1.0}
    assert len(endpoint.asked) == 4 and endpoint.asked[0].startswith("How red is it?\nAnswer with one number from 0")


def test_a_judges_reward_can_stand_alone_and_evaluations_keep_the_true_one(endpoint: Endpoint) -> None:
    _, maker = applied(config(endpoint, replaces=True))
    assert [reward for reward, _ in rewards(maker.make(), [1] * 4)] == [0, 0, 0.3, 0]
    assert [reward for reward, _ in rewards(maker.for_evaluation().make(), [1] * 4)] == [-1] * 4


def test_a_frame_that_was_seen_is_not_asked_about_again_in_this_or_a_later_process(endpoint: Endpoint) -> None:
    settings = config(endpoint)
    extension, maker = applied(settings)
    for _ in range(3):
        rewards(maker.make(), [1] * 3 + [0] * 6)
    assert len(endpoint.asked) == 1
    assert FrameJudge(settings, 1).score(np.asarray(red(3))) == pytest.approx(0.3)
    assert len(endpoint.asked) == 1, "the answer is on the disk"
    group = SimpleNamespace(foreach_env_runner=lambda work: [work(None)])
    told = extension.after_iteration(SimpleNamespace(env_runner_group=group), 0)  # type: ignore[arg-type]
    assert told == {"judge_frames_asked": 1.0, "judge_score": pytest.approx(0.3)}


def red(rows: int) -> Any:
    env = Corridor()
    env.at = rows
    return env.render()


def test_a_spent_budget_stops_the_training_or_the_rewards(endpoint: Endpoint) -> None:
    _, maker = applied(config(endpoint, budget=2))
    with pytest.raises(TrainingError, match=r"raise judge_reward\.budget"):
        rewards(maker.make(), [1] * 9)
    _, maker = applied(config(endpoint, budget=2, when_spent="zero"))
    assert [reward for reward, _ in rewards(maker.make(), [1] * 9)][2::3] == pytest.approx([-0.7, -0.4, -1.0])
    assert len(endpoint.asked) == 2


def test_a_budget_survives_a_checkpoint(endpoint: Endpoint) -> None:
    first, maker = applied(config(endpoint, budget=3))
    rewards(maker.make(), [1] * 6)
    group = SimpleNamespace(foreach_env_runner=lambda work: [work(None)])
    first.after_iteration(SimpleNamespace(env_runner_group=group), 0)  # type: ignore[arg-type]
    resumed, maker = applied(config(endpoint, budget=3))
    env = maker.make()
    resumed.set_state(first.state())
    assert resumed.state() == {"spent": 2}
    with pytest.raises(TrainingError, match="budget"):
        rewards(env, [1, 1, 0, 1, 1, 0])


@pytest.mark.parametrize("said", ["very red", "11", "-1", "7 of 10", "", "3/5"])
def test_an_answer_that_is_no_score_stops_the_training(endpoint: Endpoint, said: str) -> None:
    endpoint.say = said or " "
    with pytest.raises(ModelError, match="must answer a number from 0 to 10"):
        FrameJudge(config(endpoint), 5).score(red(1))


def test_an_endpoint_that_fails_stops_the_training(endpoint: Endpoint) -> None:
    endpoint.fail = 500
    with pytest.raises(ModelError, match="failed 1 request"):
        FrameJudge(config(endpoint), 5).score(red(1))


def test_scores_are_read_with_or_without_their_scale() -> None:
    assert [read_score(text, 10) for text in ("7", " 2.5\n", "Score: 4/10.", "10")] == [0.7, 0.25, 0.4, 1.0]


def test_a_png_decodes_to_the_frame() -> None:
    frame_HWC = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(png_of(frame_HWC)))) == frame_HWC).all()
    with pytest.raises(ConfigError, match=r"\(H, W, 3\)"):
        png_of(frame_HWC[..., 0])


def test_settings_that_cannot_work_are_refused(endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match="local model reads no frames"):
        config(endpoint, judge={"kind": "local", "model": "preset:tiny"})
    with pytest.raises(ConfigError, match="weight 0"):
        config(endpoint, weight=0.0)
    with pytest.raises(ConfigError, match="less than a frame"):
        JudgeReward(config(endpoint, budget=2), runners=3)
