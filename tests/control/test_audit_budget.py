"""A budget's share is kept exactly: in probability for any distribution of scores, and in its account for any order."""

from __future__ import annotations

import random
import threading
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, strategies

from raysafe.control.audit_budget import AuditBudget, act_probability
from raysafe.errors import ConfigError


@pytest.mark.parametrize("fraction", [Fraction(1, 10), Fraction(1, 3), Fraction(9, 10)])
@pytest.mark.parametrize("before", [0, 1, 4])
def test_the_share_is_exact_from_the_first_score_on_for_scores_with_ties(fraction: Fraction, before: int) -> None:
    """Over all sequences of a distribution on three values, with the lot's probability in closed form."""
    values = {0.0: Fraction(1, 2), 0.5: Fraction(1, 3), 1.0: Fraction(1, 6)}
    acted = Fraction(0)
    for *past, score in product(values, repeat=before + 1):
        p = values[score]
        for each in past:
            p *= values[each]
        greater, equal = sum(each > score for each in past), sum(each == score for each in past)
        acted += p * act_probability(greater, equal, before, fraction)
    assert acted == fraction


@given(
    strategies.lists(strategies.floats(0, 1), max_size=60),
    strategies.sampled_from([0.01, 0.1, 0.3, 1.0]),
    strategies.integers(0, 5),
    strategies.integers(1, 20),
)
def test_the_account_is_never_overdrawn_and_adds_up(
    scores: list[float], fraction: float, burst: int, window: int
) -> None:
    budget, calls = AuditBudget(fraction, burst=burst, window=window, rng=random.Random(0)), []
    for score in scores:
        calls.append(budget.decide(score))
        assert budget.acted <= burst + Fraction(str(fraction)) * budget.seen
    assert (budget.seen, budget.acted, budget.spent) == (len(scores), calls.count("act"), calls.count("spent"))
    # what is refused for want of budget could not have been paid
    paid = 0
    for number, call in enumerate(calls, start=1):
        assert call != "spent" or paid + 1 > burst + Fraction(str(fraction)) * number
        paid += call == "act"


def test_the_highest_scores_are_acted_on() -> None:
    rng = random.Random(1)
    budget = AuditBudget(0.1, burst=1000, rng=rng)
    rows = [(score := rng.random(), budget.decide(score)) for _ in range(5000)]
    acted = [score for score, call in rows if call == "act"]
    assert len(acted) / 5000 == pytest.approx(0.1, abs=0.015)
    assert sum(score > 0.88 for score in acted) / len(acted) > 0.95


def test_a_fleet_of_threads_keeps_one_account() -> None:
    budget = AuditBudget(0.05, burst=3)

    def work() -> None:
        for _ in range(500):
            budget.decide(1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.seen == 4000 and 100 < budget.acted <= 3 + 200


def test_a_burst_of_attacks_runs_the_budget_dry_and_it_says_so() -> None:
    budget = AuditBudget(0.1, burst=2, rng=random.Random(0))
    quiet = [budget.decide(0.0) for _ in range(50)]
    rising = [budget.decide(0.5 + step / 100) for step in range(40)]
    assert "spent" in rising and rising.count("act") <= 2 + 9 - quiet.count("act")


def test_a_window_forgets_what_is_old() -> None:
    budget = AuditBudget(0.5, window=10, rng=random.Random(0))
    for _ in range(20):
        budget.decide(0.9)
    for _ in range(10):
        budget.decide(0.1)
    assert budget.suspicious(0.5), "the nines are forgotten"


def test_looking_costs_nothing() -> None:
    budget = AuditBudget(0.5)
    for _ in range(10):
        budget.suspicious(1.0)
    assert (budget.seen, budget.acted) == (0, 0)


@pytest.mark.parametrize("settings", [{"fraction": 0.0}, {"fraction": 1.1}, {"fraction": 0.1, "burst": -1}])
def test_a_budget_that_cannot_be_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="an audit budget is a fraction above 0"):
        AuditBudget(**settings)  # type: ignore[arg-type]
