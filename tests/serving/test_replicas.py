"""The model's replica over a real engine on a tiny random Llama, and over an engine that the test holds up."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from raysafe.errors import ModelError
from raysafe.guards.guard import Message
from raysafe.models import language
from raysafe.models.generate.engine import Generation, SamplingParams
from raysafe.records.digest import folder_digest
from raysafe.serving.backend import Piece, Prompt, PromptRefused
from raysafe.serving.batcher import Batcher
from raysafe.serving.replicas import ModelReplica, ReplicaSettings

pytestmark = pytest.mark.anyio
HELLO = (Message("user", "hello"),)


@pytest.fixture(scope="module")
def replica() -> ModelReplica:
    from raysafe.models.chat import ChatFormat
    from raysafe.models.generate.transformers_engine import TransformersEngine
    from raysafe.models.language import load_policy, load_tokenizer

    tokenizer = load_tokenizer("preset:tiny")
    engine = TransformersEngine(load_policy("preset:tiny"), tokenizer)
    settings = ReplicaSettings(folder="preset:tiny", max_tokens=8)
    return ModelReplica.over(settings, engine, ChatFormat(tokenizer), 64)


async def stream(replica: ModelReplica, prompt: Prompt) -> list[Any]:
    return [piece async for piece in replica.stream(prompt)]


@pytest.mark.parametrize(
    "prompt", [Prompt(HELLO, 12, temperature=0), Prompt(HELLO, 12, seed=-5), Prompt(HELLO, 12, seed=1 << 70)]
)
async def test_a_stream_joins_to_the_whole_answer_with_the_same_counts(replica: ModelReplica, prompt: Prompt) -> None:
    whole, pieces = await replica.complete(prompt), await stream(replica, prompt)
    assert not isinstance(whole, PromptRefused)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1] == Piece("", whole.prompt_tokens, whole.completion_tokens, whole.finish_reason)


async def test_waiting_prompts_are_answered_as_they_are_alone(replica: ModelReplica) -> None:
    prompts = [Prompt((Message("user", "word " * n),), 6, temperature=0) for n in range(1, 5)]
    together = await asyncio.gather(*(replica.complete(prompt) for prompt in prompts))
    assert list(together) == [await replica.complete(prompt) for prompt in prompts]


async def test_a_prompt_beyond_the_context_is_refused_either_way(replica: ModelReplica) -> None:
    long = Prompt((Message("user", "x" * 60),))
    for refused in (await replica.complete(long), (await stream(replica, long))[0]):
        assert isinstance(refused, PromptRefused)
        assert (refused.code, "context is 64 tokens" in refused.message) == ("context_length_exceeded", True)
    assert isinstance(await replica.complete(Prompt(HELLO, 60)), PromptRefused)


async def test_without_a_limit_an_answer_ends_at_the_replicas_own(replica: ModelReplica) -> None:
    answer = await replica.complete(Prompt(HELLO, temperature=0))
    assert not isinstance(answer, PromptRefused)
    assert answer.completion_tokens <= 8


def test_files_that_are_not_the_approved_ones_are_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has changed since it was approved"):
        ModelReplica(ReplicaSettings(folder=str(tmp_path), digest="0" * 64))


@pytest.fixture
def approved(tmp_path: Path) -> ReplicaSettings:
    """A model folder as it was approved, beside one with other weights."""
    from raysafe.models.chat import PLAIN
    from raysafe.models.language import load_policy, load_tokenizer, save_policy

    tokenizer = load_tokenizer("preset:tiny")
    tokenizer.chat_template = PLAIN
    for name, seed in (("model", 0), ("other", 1)):
        save_policy(load_policy("preset:tiny", seed=seed), tokenizer, tmp_path / name)
    return ReplicaSettings(folder=str(tmp_path / "model"), digest=folder_digest(tmp_path / "model"))


def swap(settings: ReplicaSettings) -> None:
    """Write other weights over the approved ones, into the same file."""
    weights = Path(settings.folder) / "model.safetensors"
    weights.write_bytes((weights.parents[1] / "other" / weights.name).read_bytes())


def test_files_that_change_while_they_are_loaded_are_never_served(
    approved: ReplicaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = language.load_tokenizer
    monkeypatch.setattr(language, "load_tokenizer", lambda folder: (swap(approved), load(folder))[1])
    with pytest.raises(ModelError, match="has changed since it was approved"):
        ModelReplica(approved)


def test_files_that_change_after_they_were_loaded_change_nothing(approved: ReplicaSettings) -> None:
    replica = ModelReplica(approved)
    expected = language.load_policy("preset:tiny", seed=0).state_dict()
    swap(approved)
    served = replica._engine.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(served[name], weights) for name, weights in expected.items())


@pytest.mark.parametrize("place", ["../outside", "linked"])
def test_weights_that_the_digest_does_not_cover_are_never_served(approved: ReplicaSettings, place: str) -> None:
    folder = Path(approved.folder)
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / "model.safetensors").rename(outside / "model.safetensors")
    names = dict.fromkeys(load_file(outside / "model.safetensors"), f"{place}/model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    if place == "linked":
        (folder / place).symlink_to(outside)
        with pytest.raises(ModelError, match="linked is a linked folder"):
            folder_digest(folder)
        (folder / place).unlink()
        digest = folder_digest(folder)
        (folder / place).symlink_to(outside)
    else:
        digest = folder_digest(folder)
    with pytest.raises(ModelError, match=r"which is no file of|is a linked folder"):
        ModelReplica(approved.model_copy(update={"digest": digest}))
    with pytest.raises(ModelError, match="which is no file of"):
        ModelReplica(approved.model_copy(update={"digest": None}))


class HeldEngine:
    """Answers when the test says so, and notes its batches."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.batches: list[list[int]] = []
        self.cancelled: list[bool] = []

    def generate(self, prompts: Any, sampling: SamplingParams, cancelled: Any = None) -> list[Generation]:
        self.batches.append([prompt[0] for prompt in prompts])
        while not self.free.wait(0.005):
            if cancelled():
                break
        self.cancelled.append(cancelled())
        return [Generation(i, [1], [0.0], str(prompt[0]), "stop") for i, prompt in enumerate(prompts)]

    def stream(self, prompt: Any, sampling: Any, cancelled: Any = None) -> Any:
        raise NotImplementedError("not asked for here")

    def update_weights(self, weights: Any) -> None:
        raise NotImplementedError("not asked for here")


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


async def test_what_waits_is_batched_by_sampling_and_bounded() -> None:
    engine = HeldEngine()
    batcher = Batcher(engine, max_batch=3)
    warm, cold = SamplingParams(), SamplingParams(temperature=0)
    asks = [
        (0, warm, None),
        (1, warm, None),
        (2, cold, None),
        (3, warm, None),
        (4, warm, 7),
        (5, warm, None),
        (6, warm, None),
    ]
    tasks = []
    for prompt, sampling, seed in asks:
        tasks.append(asyncio.create_task(batcher.generate([prompt], sampling, seed)))
        await until(lambda: engine.batches)
    await asyncio.sleep(0.02)
    engine.free.set()
    answers = await asyncio.gather(*tasks)
    batcher.close()
    assert [answer.text for answer in answers] == [str(n) for n in range(7)]
    assert engine.batches == [[0], [1, 3, 5], [2], [4], [6]]


async def test_a_stated_seed_never_meets_its_own_prompt_in_a_batch() -> None:
    engine = HeldEngine()
    batcher = Batcher(engine, max_batch=8)
    tasks = [asyncio.create_task(batcher.generate([n], SamplingParams(), 7)) for n in (9, 1, 1, 2)]
    await asyncio.sleep(0.02)
    engine.free.set()
    await asyncio.gather(*tasks)
    batcher.close()
    assert all(len(set(batch)) == len(batch) for batch in engine.batches)
    assert sorted(prompt for batch in engine.batches for prompt in batch) == [1, 1, 2, 9]


async def test_a_batch_ends_when_all_of_it_is_cancelled_and_the_waiting_leave_the_queue() -> None:
    engine = HeldEngine()
    batcher = Batcher(engine, max_batch=1)
    running = asyncio.create_task(batcher.generate([0], SamplingParams(), None))
    await until(lambda: engine.batches)
    waiting = asyncio.create_task(batcher.generate([1], SamplingParams(), None))
    await asyncio.sleep(0.01)
    for task in (waiting, running):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    await until(lambda: engine.cancelled)
    engine.free.set()
    assert (await batcher.generate([2], SamplingParams(), None)).text == "2"
    batcher.close()
    assert engine.cancelled[0] and engine.batches == [[0], [2]]


async def test_an_engine_that_fails_fails_its_batch_and_not_the_next() -> None:
    engine = HeldEngine()
    engine.free.set()
    generate, engine.generate = engine.generate, lambda *a: (_ for _ in ()).throw(RuntimeError("no memory"))  # type: ignore[method-assign]
    batcher = Batcher(engine, max_batch=4)
    with pytest.raises(RuntimeError, match="no memory"):
        await batcher.generate([0], SamplingParams(), None)
    engine.generate = generate  # type: ignore[method-assign]
    assert (await batcher.generate([1], SamplingParams(), None)).text == "1"
    batcher.close()


async def test_closing_a_stream_ends_the_generation(replica: ModelReplica) -> None:
    seen: list[bool] = []
    engine = replica._engine
    original = engine.stream

    def watched(prompt: Any, sampling: SamplingParams, cancelled: Any) -> Any:
        stream = original(prompt, sampling, cancelled)

        class Watch:
            generation = None

            def __iter__(self) -> Any:
                for piece in stream:
                    threading.Event().wait(0.01)
                    yield piece
                seen.append(cancelled())

        return Watch()

    engine.stream = watched  # type: ignore[method-assign]
    try:
        pieces = replica.stream(Prompt(HELLO, 40, temperature=0))
        await anext(pieces)
        await pieces.aclose()
        await until(lambda: seen)
    finally:
        engine.stream = original  # type: ignore[method-assign]
    assert seen == [True]
