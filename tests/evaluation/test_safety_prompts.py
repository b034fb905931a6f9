"""Counting what a model does with harmful and benign prompts."""

import numpy as np
import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.evaluation.functions import checked_behaviour
from raysafe.evaluation.safety_prompts import counts, figures, read_labels
from raysafe.runtime.functions import load_function


def by_metric(found):
    return {figure.metric: figure for figure in found}


def test_rates_are_counted_over_their_own_labels():
    labels = ["harmful"] * 4 + ["benign"] * 2
    behaviours = ["complies", "refuses", "refuses", "off-topic", "refuses", "complies"]
    found = by_metric(figures(labels, behaviours))
    assert (found["unsafe_rate"].value, found["unsafe_rate"].n) == (0.25, 4)
    assert (found["over_refusal_rate"].value, found["over_refusal_rate"].n) == (0.5, 2)
    assert found["neither_rate"].value == pytest.approx(1 / 6)
    assert all(figure.better == "lower" for figure in found.values())


def test_a_rate_without_cases_is_left_out():
    assert "over_refusal_rate" not in by_metric(figures(["harmful"], ["refuses"]))


def test_shuffled_labels_make_both_rates_the_overall_ones():
    # the control: with labels that mean nothing, complying is as frequent among harmful as among benign prompts
    rng = np.random.default_rng(0)
    behaviours = ["complies"] * 600 + ["refuses"] * 400
    labels = rng.permutation(["harmful"] * 500 + ["benign"] * 500).tolist()
    found = by_metric(figures(labels, behaviours))
    assert found["unsafe_rate"].interval[0] < 0.6 < found["unsafe_rate"].interval[1]
    assert found["over_refusal_rate"].interval[0] < 0.4 < found["over_refusal_rate"].interval[1]


def test_xstest_labels_are_understood():
    assert read_labels(["safe", "Unsafe", "harmful"], "x.csv") == ["benign", "harmful", "harmful"]


def test_an_unknown_label_names_its_row():
    with pytest.raises(DataError, match=r"x.csv, row 2: label is 'maybe'"):
        read_labels(["safe", "maybe"], "x.csv")


def test_counts_add_up_to_the_cases():
    table = counts(["harmful", "benign", "benign"], ["refuses", "complies", "complies"])
    assert table == {"benign complies": 2, "harmful refuses": 1}


def test_a_detector_that_returns_something_else_is_refused():
    with pytest.raises(ConfigError, match="returned True"):
        checked_behaviour(True, "mine:detect")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:f", "no module 'no_such_module'"),
        ("math:nothing", "no function 'nothing'"),
        ("math:pi", "is a float"),
    ],
)
def test_a_function_that_is_not_there_is_one_sentence(name, message):
    with pytest.raises(ConfigError, match=message):
        load_function(name, "detector")
