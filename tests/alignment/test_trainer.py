"""An update on N processes is that of one: policy and critic, DDP and FSDP, adapters, and ranks without work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from raysafe.alignment import trainer as trainer_module
from raysafe.alignment.experience import Samples, answer_lengths, plan, token_places
from raysafe.errors import TrainingError
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.heads import load_reward_model
from raysafe.models.language import load_policy, load_tokenizer
from raysafe.models.lora import merge_lora
from raysafe.runtime import parallel
from raysafe.runtime.checkpoint import gather_model
from raysafe.runtime.gradient import accumulate
from tests.alignment.online_parts import (
    CASES,
    PLACE,
    RESUMED,
    WORLDS,
    Case,
    alone,
    keep,
    make_exact,
    make_samples,
    updated,
    weights_of,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "publish", keep)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the policy that is trained, in model/."""
    folder = tmp_path_factory.mktemp("online")
    make_exact(folder / "model")
    PLACE["model"] = str(folder / "model")
    yield folder
    PLACE["model"] = "preset:tiny"


def gap(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    assert set(one) == set(other)
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.fixture(scope="module")
def by_ranks(place: Path) -> tuple[Path, dict[int, Any]]:
    """All cases on two and four processes, which go on from a checkpoint that one process wrote."""
    folder = place
    first = Case("ddp").trainer()
    first.update(*Case("ddp").experience(), step=0, total_steps=8)
    first.save(str(folder), "alone", {"answers": 15})
    command = [sys.executable, "-m", "tests.alignment.online_parts", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, {ranks: torch.load(folder / f"{ranks}.pt", weights_only=False) for ranks in WORLDS}


@pytest.mark.ray
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_and_four_processes_update_as_one_does(by_ranks: tuple[Path, dict[int, Any]], case: Case) -> None:
    expected = updated(alone(case))
    start = weights_of(alone(case).trainer())
    limit = 1e-5 if case.name == "float32" else 1e-9
    assert gap(start, expected["weights"]) > 1e-4, "nothing was learned"
    for ranks in WORLDS:
        found = by_ranks[1][ranks]["updated"][case.name]
        assert gap(found["weights"], expected["weights"]) <= limit
        for name in set(expected["figures"]) - {"update_s"}:
            assert found["figures"][name] == pytest.approx(expected["figures"][name], rel=limit, abs=1e-12)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["token", "fsdp", "critic", "one answer fsdp"])
def test_the_shares_of_all_ranks_are_the_figures_of_every_token_once(
    by_ranks: tuple[Path, dict[int, Any]], name: str
) -> None:
    case = next(case for case in CASES if case.name == name)
    rows, _ = case.experience()
    expected = updated(alone(case))
    figures = in_order(rows, [(expected["places"], expected["values"])])
    for ranks in WORLDS:
        shares = [share[name] for share in by_ranks[1][ranks]["shares"]]
        assert sorted(np.concatenate([places for places, _ in shares]).tolist()) == list(range(rows.num_rows))
        np.testing.assert_allclose(in_order(rows, shares), figures, rtol=0, atol=1e-12)


def in_order(rows: pa.Table, shares: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    lengths = answer_lengths(rows)
    figures = np.full(int(lengths.sum()), np.nan)
    for places, values in shares:
        figures[token_places(lengths, places)] = values
    return figures


@pytest.mark.ray
@pytest.mark.parametrize("name", ["token", "fsdp", "lora", "lora fsdp", "critic", "critic fsdp"])
def test_a_model_exported_by_several_ranks_opens_with_their_weights(
    by_ranks: tuple[Path, dict[int, Any]], name: str
) -> None:
    folder, found = by_ranks
    for ranks in WORLDS:
        opened: Any = (load_reward_model if "critic" in name else load_policy)(folder / f"{ranks} {name}")
        assert gap(gather_model(opened), found[ranks]["updated"][name]["weights"]) <= 1e-6


@pytest.mark.ray
@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.name)
def test_a_checkpoint_goes_on_with_any_number_of_ranks(by_ranks: tuple[Path, dict[int, Any]], case: Case) -> None:
    folder, found = by_ranks
    trainer = Case("ddp").trainer()
    for seed in (0, 1):
        trainer.update(*Case("ddp").experience(seed=seed), step=4 * seed, total_steps=8)
    second = weights_of(trainer)
    trainer.update(*Case("ddp").experience(seed=2), step=8, total_steps=8)
    for ranks in WORLDS:
        resumed = found[ranks]["resumed"][case.name]
        assert resumed["state"]["answers"] == 15
        assert gap(resumed["weights"], second) <= 1e-9
        later = Case("ddp").trainer()
        assert later.restore(str(folder), f"of-{ranks}-{case.name}")["answers"] == 30
        later.update(*Case("ddp").experience(seed=2), step=8, total_steps=8)
        assert gap(weights_of(later), weights_of(trainer)) <= 1e-9


def test_a_mean_over_ranks_of_each_ranks_mean_is_another_update() -> None:
    """The control: what the equality above would miss if the divisor were a rank's own units."""
    case = Case("token", epochs=1, minibatches=1)
    rows, (part,) = case.experience()
    right, wrong = case.trainer(), case.trainer()
    right.update(rows, [part], step=0, total_steps=1)
    gradients = []
    for micros in plan(rows, ranks=2, budget=wrong.config.micro_tokens, layout=wrong.learner.layout):
        batches = [(wrong.learner.collate(rows.take(pa.array(micro))), True) for micro in micros]
        units = sum(batch.weight for batch, _ in batches)
        accumulate(
            wrong.module, wrong.learner.loss, batches,
            weight=units, ranks=1, dtype=torch.float64, device=torch.device("cpu"),
        )  # fmt: skip
        gradients.append([cast(Tensor, p.grad).clone() for p in wrong.module.parameters()])
        wrong.module.zero_grad()
    for parameter, *both in zip(wrong.module.parameters(), *gradients, strict=True):
        parameter.grad = (both[0] + both[1]) / 2
    parallel.clip(wrong.module, wrong.config.clip_norm)
    wrong.optimizer.step()
    assert gap(weights_of(right), weights_of(wrong)) > 1e-5


def test_micro_batches_of_any_size_make_the_same_update() -> None:
    weights = [updated(Case("m", training={"micro_tokens": size}))["weights"] for size in (8, 40, 4096)]
    assert gap(weights[0], weights[2]) <= 1e-9
    assert gap(weights[1], weights[2]) <= 1e-9


def worked_out(module: Any, samples: Samples, loss: dict[str, Any], kl_coefficient: float, *, old: bool) -> Tensor:
    """The summed loss of the tokens, each answer alone behind its prompt, by the papers' formulas."""
    total, start = torch.zeros((), dtype=torch.float64), 0
    for group, answer in zip(samples.group_C, samples.answers, strict=True):
        prompt, end = samples.prompts[group], start + len(answer)
        ids = torch.tensor([*prompt, *answer.tolist()])
        logp_TV = module(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        logp_T = logp_TV.gather(1, ids[len(prompt) :, None])[:, 0]
        advantage_T, old_T, ref_T = (
            torch.from_numpy(samples.tokens[name][start:end]) for name in ("advantages", "old_logps", "ref_logps")
        )
        old_T = old_T if old else logp_T.detach()
        ratio_T = (logp_T - old_T).exp()
        gain_T = torch.where(
            advantage_T > 0,
            advantage_T * ratio_T.clamp(max=1 + loss["clip_high"]),
            advantage_T * ratio_T.clamp(1 - loss["clip_low"], loss["dual_clip"]),
        )
        off_T = old_T - torch.from_numpy(samples.rollout_logps_N[start:end])
        off_T = off_T.sum().expand(len(off_T)) if loss["importance_of"] == "answer" else off_T
        gain_T = gain_T * off_T.exp().clamp(max=loss["importance_cap"])
        kl_T = (ref_T - logp_T).exp() - 1 - (ref_T - logp_T)
        entropy_T = -(logp_TV.exp() * logp_TV).sum(-1)
        total = total + (kl_coefficient * kl_T - gain_T - loss["entropy_coefficient"] * entropy_T).sum()
        start = end
    return total


@pytest.mark.parametrize("old", [True, False], ids=["old", "fresh"])
@pytest.mark.parametrize("importance_of", ["token", "answer"])
def test_the_policys_loss_and_gradient_are_those_of_each_answer_worked_out_alone(importance_of: str, old: bool) -> None:
    loss = {
        "clip_low": 0.1, "clip_high": 0.3, "dual_clip": 1.5, "entropy_coefficient": 0.2,
        "importance_cap": 1.2, "importance_of": importance_of,
    }  # fmt: skip
    layout = {"pack": False, "share_prompt": False}
    job, samples = Case("c", fields={"loss": loss, "layout": layout}).job, make_samples()
    learner: Any = job.learners()["policy"]
    module = learner.build().double()
    found, metrics = learner.loss(module, learner.collate(job.experience(samples, 0.3, old=old)))
    expected = worked_out(module, samples, loss, 0.3, old=old)
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    parameters = list(module.parameters())
    gradients = [torch.autograd.grad(value, parameters) for value in (found, expected)]
    assert max(float((one - other).abs().max()) for one, other in zip(*gradients, strict=True)) < 1e-9
    if old:
        mismatch = np.abs(samples.tokens["old_logps"] - samples.rollout_logps_N).sum()
        assert float(metrics["mismatch"][0]) == pytest.approx(mismatch)
        assert 0 < float(metrics["clipped"][0]) < metrics["clipped"][1]


def test_the_critics_loss_is_the_clipped_one_of_its_values_weighed_as_the_average_says() -> None:
    job, samples = Case("c", role="critic", fields={"value_clip": 0.1, "average": "sequence"}).job, make_samples()
    learner: Any = job.learners()["critic"]
    rows = job.experience(samples, 0.05, old=True)
    found, metrics = learner.loss(learner.build().double(), learner.collate(rows))
    # a new critic's values are zero
    before_N, returns_N = samples.tokens["values"], samples.tokens["returns"]
    held_N = (np.clip(0.0, before_N - 0.1, before_N + 0.1) - returns_N) ** 2
    weights_N = np.repeat(1 / samples.lengths_C, samples.lengths_C)
    assert found.item() == pytest.approx((weights_N * np.maximum(returns_N**2, held_N)).sum() / 2)
    assert float(metrics["value_clipped"][0]) == (held_N > returns_N**2).sum() > 0


def test_each_step_has_its_own_rate_of_the_schedule_and_a_gradient_within_the_bound() -> None:
    case = Case("c", training={"schedule": "linear", "warmup_fraction": 0.5, "clip_norm": 1e-3})
    trainer = case.trainer()
    rows, parts = case.experience()
    rates, norms = [], []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        norms.append(torch.cat([p.grad.flatten() for p in trainer.module.parameters() if p.grad is not None]).norm())

    trainer.optimizer.register_step_pre_hook(note)
    figures = trainer.update(rows, parts, step=2, total_steps=12)
    assert rates == [trainer.config.rate(2 + i, 12) for i in range(4)] and len(set(rates)) == 4
    assert figures["learning_rate"] == pytest.approx(np.mean(rates))
    assert figures["gradient_norm"] > 1e-2 and norms == pytest.approx([1e-3] * 4, rel=1e-3)


def test_saving_changes_nothing_that_is_trained_afterwards(tmp_path: Path) -> None:
    plain, saved, restored = (Case("c").trainer() for _ in range(3))
    saved.save(str(tmp_path), "before-the-first-step", {})
    restored.update(*Case("c").experience(seed=3), step=0, total_steps=4)
    restored.restore(str(tmp_path), "before-the-first-step")
    for trainer in (plain, saved, restored):
        trainer.update(*Case("c").experience(), step=0, total_steps=4)
    assert gap(weights_of(saved), weights_of(plain)) == 0.0
    assert gap(weights_of(restored), weights_of(plain)) == 0.0


def test_going_back_to_a_checkpoint_gives_the_same_second_update(tmp_path: Path) -> None:
    trainer = Case("c").trainer()
    trainer.update(*Case("c").experience(), step=0, total_steps=8)
    trainer.save(str(tmp_path), "first", {"step": 1})
    second = []
    for _ in range(2):
        trainer.update(*Case("c").experience(seed=1), step=4, total_steps=8)
        second.append(weights_of(trainer))
        assert trainer.restore(str(tmp_path), "first")["step"] == 1
    assert gap(second[0], second[1]) == 0.0


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_update() -> None:
    trainer = Case("c", epochs=1, minibatches=1).trainer()
    samples = make_samples()
    samples.tokens["advantages"][3] = np.nan
    rows = Case("c").job.experience(samples, 0.05, old=True)
    before = weights_of(trainer)
    with pytest.raises(TrainingError, match=r"update 8: loss nan .* lower training.learning_rate"):
        trainer.update(rows, [np.arange(rows.num_rows)], step=7, total_steps=9)
    assert gap(weights_of(trainer), before) == 0.0


def test_answers_that_are_all_masked_leave_the_weights_alone() -> None:
    case = Case("c", fields={"mask_overlong": True}, training={"weight_decay": 0.0})
    trainer, samples = case.trainer(), make_samples()
    samples.complete_C[:] = False
    before = weights_of(trainer)
    rows = case.job.experience(samples, 0.05, old=True)
    figures = trainer.update(rows, [np.arange(rows.num_rows)], step=0, total_steps=1)
    assert (figures["loss"], figures["gradient_norm"]) == (0.0, 0.0)
    assert gap(weights_of(trainer), before) == 0.0


@pytest.mark.parametrize("fields", [None, {"lora": {"rank": 4}}], ids=["whole", "adapters"])
def test_an_engine_takes_what_is_published_and_computes_the_trained_policys_logits(fields: dict[str, Any]) -> None:
    llama = {"model": "preset:tiny"} | (fields or {})
    case = Case("c", fields=llama, training={"precision": "float32", "learning_rate": 1e-2})
    trainer = case.trainer()
    trainer.update(*case.experience(), step=0, total_steps=4)
    engine = TransformersEngine(load_policy("preset:tiny"), load_tokenizer("preset:tiny"))
    ids = torch.arange(5, 25)[None]
    before = engine.model(ids).logits
    engine.update_weights(weights_of(trainer))
    trained = merge_lora(trainer.module) if fields else trainer.module
    trained.eval().set_attn_implementation("sdpa")  # type: ignore[operator]
    with torch.no_grad():
        torch.testing.assert_close(engine.model(ids).logits, trained(ids).logits, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(engine.model(ids).logits, before, atol=1e-3)


def test_ranks_other_than_the_first_publish_nothing() -> None:
    assert Case("c").trainer(rank=1).publish(3) is None


@pytest.mark.parametrize("role", ["policy", "critic"])
def test_an_exported_model_opens_again_with_the_same_figures(tmp_path: Path, role: str) -> None:
    case = Case("c", role=role, training={"precision": "float32"})
    trainer = case.trainer()
    rows, parts = case.experience()
    trainer.update(rows, parts, step=0, total_steps=4)
    trainer.export(str(tmp_path), "model")
    loaded: Any = load_policy(tmp_path / "model") if role == "policy" else load_reward_model(tmp_path / "model")
    torch.testing.assert_close(dict(loaded.state_dict()), dict(trainer.module.state_dict()), rtol=0, atol=0)
    trainer.update(rows, parts, step=4, total_steps=8)


@pytest.mark.parametrize(
    "layout", [{}, {"pack": False}, {"share_prompt": False}, {"share_prompt": False, "pack": False}]
)
@pytest.mark.parametrize("role", ["policy", "critic"])
def test_answers_without_tokens_teach_nothing_and_break_nothing(layout: Any, role: str) -> None:
    case = Case("c", role=role, fields={"layout": layout, "average": "sequence"}, training={"clip_norm": None})
    full, hollow = make_samples(2, 2), make_samples(2, 2)
    nothing = np.zeros(0, dtype=np.int32)
    hollow.answers = [full.answers[0], nothing, full.answers[1], nothing, full.answers[2], full.answers[3], nothing]
    hollow.group_C, hollow.complete_C = np.array([0, 0, 0, 0, 1, 1, 1]), np.ones(7, dtype=bool)
    weights = []
    for samples in (full, hollow):
        trainer, rows = case.trainer(), case.job.experience(samples, 0.05, old=True)
        rows = rows.set_column(3, "units", pa.array(np.full(rows.num_rows, 1.0 if samples is full else 4 / 7)))
        places, values = trainer.figures(rows)
        assert not np.isnan(in_order(rows, [(places, values)])).any()
        trainer.update(rows, [np.arange(rows.num_rows)], step=0, total_steps=1)
        weights.append(weights_of(trainer))
    assert gap(*weights) <= 1e-9


def test_a_critic_begins_with_values_of_zero() -> None:
    case = Case("c", role="critic")
    _, values = case.trainer().figures(case.experience()[0])
    assert not values.any()


@pytest.mark.ray
def test_an_update_on_actors_equals_the_same_update_in_one_process(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysafe.alignment.roles import TrainerFactory
    from raysafe.runtime.group import GroupSpec, Pool
    from raysafe.runtime.supervisor import Supervisor
    from raysafe.runtime.weights import receive

    cases = {"policy": Case("p", fields={"mask_overlong": True}), "critic": Case("c", role="critic")}
    factories = {
        role: TrainerFactory(case.job.learners()[role], case.job.optim(role), case.job.seed)
        for role, case in cases.items()
    }
    spec = GroupSpec("all", Pool(workers=2, cpus=0.5), factories, collective=True)
    with Supervisor([spec], note=lambda event, **fields: None, deadline_s=120, max_restarts=0) as supervisor:
        for role, case in cases.items():
            rows, parts = case.experience()
            expected = updated(case)
            handle = supervisor.role(role)
            shares = handle.call("figures", rows)
            both = [in_order(rows, share) for share in (shares, [(expected["places"], expected["values"])])]
            np.testing.assert_allclose(both[0], both[1], rtol=0, atol=1e-12)
            figures = handle.call("update", rows, parts, step=0, total_steps=len(parts))
            assert figures[0]["loss"] == figures[1]["loss"] == pytest.approx(expected["figures"]["loss"], rel=1e-9)
            published = handle.call("publish", 1)
            assert published[1] is None
            found = {name: tensor.clone() for name, tensor in receive(published[0]).items()}
            assert gap(found, expected["weights"]) <= 1e-9
