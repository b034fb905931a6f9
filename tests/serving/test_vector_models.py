"""Classifiers and policies on vectors, asked through the replica's interface."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import norm

from raysafe.guards.guard import Message
from raysafe.models.mlp import (
    ClassifierHead,
    DiscreteHead,
    GaussianHead,
    Mlp,
    MlpConfig,
    Smoothing,
    load_mlp,
    save_mlp,
)
from raysafe.models.vision import Vision, VisionConfig, save_vision
from raysafe.rl.policy import BoxSpace, Policy, PolicyCard, save_policy
from raysafe.serving.backend import ModelFailed, Move, NotOffered, Prompt, PromptRefused, Situation
from raysafe.serving.local import load_backend
from raysafe.serving.replicas import ReplicaSettings

pytestmark = pytest.mark.anyio
CLASSIFIER = ClassifierHead(labels=("cat", "dog"))
GAUSSIAN = GaussianHead(low=(-1.0,), high=(1.0,))


def serve(folder: Path, head: Any) -> Any:
    """The network whose outputs are its inputs, in as many parts as the head has."""
    model = Mlp(MlpConfig(inputs=head.outputs, head=head))
    model.load_state_dict({"layers.0.weight": torch.eye(head.outputs), "layers.0.bias": torch.zeros(head.outputs)})
    save_mlp(model, folder)
    return load_backend(ReplicaSettings(folder=str(folder)))


async def test_a_classifier_predicts_the_softmax_of_its_logits(tmp_path: Path) -> None:
    backend = serve(tmp_path, CLASSIFIER)
    first, second = await backend.predict(((math.log(3), 0.0), (0.0, 0.0)))
    assert first.label == "cat" and first.scores == pytest.approx({"cat": 0.75, "dog": 0.25})
    assert second.scores == pytest.approx({"cat": 0.5, "dog": 0.5})
    backend.close()


async def test_a_discrete_policy_takes_its_best_action_and_a_gaussian_one_its_bounded_mean(tmp_path: Path) -> None:
    values = serve(tmp_path / "a", DiscreteHead(actions=3, scores="values"))
    gaussian = serve(tmp_path / "b", GAUSSIAN)
    assert await values.act(Situation(((0.0, 2.0, 1.0),))) == (Move(1, (0.0, 2.0, 1.0), "values"),)
    assert await gaussian.act(Situation(((0.5,), (7.0,)))) == (Move((0.5,)), Move((1.0,)))
    values.close()
    gaussian.close()


async def test_a_seed_draws_the_same_actions_whoever_else_asks(tmp_path: Path) -> None:
    policy = serve(tmp_path, DiscreteHead(actions=3))
    logits = ((0.0, 0.5, 0.2),) * 30
    drawn = Situation(logits, deterministic=False, seed=5)
    alone = await policy.act(drawn)
    crowd = await asyncio.gather(
        *(policy.act(Situation(logits, deterministic=False)) for _ in "1234"), policy.act(drawn)
    )
    assert crowd[-1] == alone and crowd[0] != alone
    assert {move.action for move in alone} == {0, 1, 2} and sum(alone[0].scores) == pytest.approx(1)
    policy.close()


async def test_a_policy_without_a_distribution_refuses_to_draw(tmp_path: Path) -> None:
    policy = serve(tmp_path, GAUSSIAN)
    with pytest.raises(PromptRefused, match="no distribution"):
        await policy.act(Situation(((0.5,),), deterministic=False))
    policy.close()


async def test_an_observation_outside_the_policys_space_is_refused(tmp_path: Path) -> None:
    card = PolicyCard(
        env="x", algorithm="PPO", distribution="deterministic",
        observations=BoxSpace(shape=(1,), low=(-2.0,), high=(None,)),
        actions=BoxSpace(shape=(1,), low=(-1.0,), high=(1.0,)),
    )  # fmt: skip
    serve(tmp_path, GAUSSIAN).close()
    save_policy(Policy(load_mlp(tmp_path), card), tmp_path)
    policy = load_backend(ReplicaSettings(folder=str(tmp_path)))
    assert await policy.act(Situation(((9.0,),))) == (Move((1.0,)),)
    with pytest.raises(PromptRefused, match="number 0 is -3, outside -2 to no bound"):
        await policy.act(Situation(((0.0,), (-3.0,))))
    policy.close()


async def test_a_smoothed_classifier_certifies_where_its_vote_is_clear_and_abstains_where_it_is_not(
    tmp_path: Path,
) -> None:
    """Logits are the inputs: noise of sigma 1 turns their order with probability Phi(-difference / sqrt 2)."""
    smoothing = Smoothing(sigma=1.0, selection=50, samples=1000, alpha=0.001)
    backend = serve(tmp_path, ClassifierHead(labels=("cat", "dog"), smoothing=smoothing))
    clear, unclear = await backend.predict(((0.0, 2.0), (0.0, 0.0)))
    assert clear.label == "dog" and set(clear.scores) == {"dog"}
    assert 0.85 < clear.scores["dog"] < norm.cdf(2**0.5)
    # the decision boundary is 2 / sqrt 2 away
    assert clear.radius == pytest.approx(norm.ppf(clear.scores["dog"])) and 1.0 < clear.radius < 2**0.5
    assert (unclear.label, unclear.scores, unclear.radius) == (None, {}, 0.0)
    backend.close()


async def test_a_smoothed_classifier_is_dead_where_the_thread_that_certifies_is(tmp_path: Path) -> None:
    smoothing = Smoothing(sigma=1.0, selection=50, samples=1000, alpha=0.001)
    backend = serve(tmp_path, ClassifierHead(labels=("cat", "dog"), smoothing=smoothing))
    assert backend.alive
    backend._certifier.close()
    backend._certifier._thread.join(30)
    assert not backend.alive
    backend.close()


async def test_many_at_once_get_their_own_answers(tmp_path: Path) -> None:
    backend = serve(tmp_path, GAUSSIAN)
    moves = await asyncio.gather(*(backend.act(Situation(((n / 128,),))) for n in range(-60, 60)))
    assert moves == [(Move((n / 128,)),) for n in range(-60, 60)]
    backend.close()


@pytest.mark.parametrize("inputs", [("text",), ((1.0,),), ((1.0, math.nan),), ((1.0, math.inf),)])
async def test_inputs_that_are_no_vectors_of_the_size_are_refused(inputs: Any, tmp_path: Path) -> None:
    backend = serve(tmp_path, CLASSIFIER)
    with pytest.raises(PromptRefused) as refused:
        await backend.predict(inputs)
    assert refused.value.code == "invalid_input"
    backend.close()


async def test_an_input_that_overflows_is_a_failure_and_no_answer(tmp_path: Path) -> None:
    backend = serve(tmp_path, CLASSIFIER)
    with pytest.raises(ModelFailed):
        await backend.predict(((1e300, 0.0),))
    backend.close()


async def test_each_offers_its_own_only(tmp_path: Path) -> None:
    classifier, policy = serve(tmp_path / "a", CLASSIFIER), serve(tmp_path / "b", GAUSSIAN)
    prompt = Prompt((Message("user", "hi"),))
    for ask in (
        classifier.act(Situation(((1.0, 2.0),))), policy.predict(((1.0,),)), policy.complete(prompt),
        policy.embed(("text",)),
        anext(policy.stream(prompt)),
    ):  # fmt: skip
        with pytest.raises(NotOffered):
            await ask
    classifier.close()
    policy.close()


def serve_images(folder: Path, smoothing: Smoothing | None = None) -> tuple[Vision, Any]:
    head = ClassifierHead(labels=("cat", "dog"), smoothing=smoothing)
    torch.manual_seed(0)
    model = Vision(VisionConfig(image=(1, 2, 3), stages=(4,), head=head))
    save_vision(model, folder)
    return model.eval(), load_backend(ReplicaSettings(folder=str(folder)))


async def test_a_classifier_of_images_takes_their_rows_as_one_vector(tmp_path: Path) -> None:
    model, backend = serve_images(tmp_path)
    image = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    (found,) = await backend.predict((image,))
    wanted_K = model(torch.tensor(image).view(1, 1, 2, 3)).softmax(-1)[0]
    assert list(found.scores.values()) == pytest.approx(wanted_K.tolist())
    with pytest.raises(PromptRefused, match="takes vectors of 6 numbers, got 2"):
        await backend.predict(((0.0, 1.0),))
    with pytest.raises(PromptRefused, match="pixels must lie between 0 and 1, got 255: divide by 255"):
        await backend.predict(((0.0, 255.0, 0.0, 0.0, 0.0, 0.0),))
    backend.close()


async def test_a_smoothed_classifier_of_images_votes_on_noisy_ones_and_abstains(tmp_path: Path) -> None:
    smoothing = Smoothing(sigma=0.25, selection=50, samples=1000, alpha=0.001)
    model, backend = serve_images(tmp_path, smoothing)
    image = torch.rand(1, 2, 3, generator=torch.Generator().manual_seed(1))
    noisy = image + 0.25 * torch.randn(100_000, 1, 2, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        model.logits.bias[1] += (model(noisy) @ torch.tensor([1.0, -1.0])).quantile(0.1)  # type: ignore[index]
        dogs = float((model(noisy).argmax(-1) == 1).float().mean())
        save_vision(model, tmp_path / "clear")
        model.logits.bias[1] += (model(noisy) @ torch.tensor([1.0, -1.0])).quantile(0.5)  # type: ignore[index]
        save_vision(model, tmp_path / "even")
    vector = tuple(image.flatten().tolist())
    backend.close()
    found = {}
    for name in ("clear", "even"):
        backend = load_backend(ReplicaSettings(folder=str(tmp_path / name)))
        (found[name],) = await backend.predict((vector,))
        backend.close()
    label = "dog" if dogs > 0.5 else "cat"
    assert (found["clear"].label, found["even"].label) == (label, None)
    assert found["clear"].radius == pytest.approx(0.25 * norm.ppf(found["clear"].scores[label]))
    assert found["clear"].scores[label] < max(dogs, 1 - dogs)
