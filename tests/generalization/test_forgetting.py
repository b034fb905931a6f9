"""Figures of the accuracy matrix on worked numbers; the reservoir's uniformity; distillation's formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from raysafe.generalization.distillation import distillation_loss
from raysafe.generalization.forgetting import summarise
from raysafe.generalization.reservoir import Reservoir

MATRIX = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.7, 0.5, 0.9]])


def test_figures_of_a_worked_matrix() -> None:
    found = summarise(MATRIX, untrained_T=np.array([0.1, 0.1, 0.2]))
    assert found.average == pytest.approx(0.7)
    assert found.backward_transfer == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert found.forward_transfer == pytest.approx(((0.2 - 0.1) + (0.3 - 0.2)) / 2)
    assert found.forgetting_T == pytest.approx((0.2, 0.3))
    assert found.worst_forgetting == pytest.approx(0.3)


def test_forgetting_is_from_the_best_ever_and_backward_transfer_from_when_it_was_learned() -> None:
    matrix = MATRIX.copy()
    matrix[1, 0] = 0.95
    assert summarise(matrix).forgetting_T[0] == pytest.approx(0.25)
    assert summarise(matrix).backward_transfer == summarise(MATRIX).backward_transfer


def test_a_matrix_of_one_task_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        summarise(np.array([[0.9]]))


def test_every_item_is_as_likely_to_stay_in_the_reservoir() -> None:
    kept = np.zeros(30)
    for seed in range(2000):
        memory: Reservoir[int] = Reservoir(6, seed)
        for item in range(30):
            memory.offer(item)
        kept[memory.items] += 1
    assert kept.sum() == 6 * 2000
    assert chisquare(kept).pvalue > 0.001


def test_a_reservoir_with_room_keeps_all_and_its_choice_depends_on_the_seed_alone() -> None:
    def filled(capacity: int, seed: int) -> list[int]:
        memory: Reservoir[int] = Reservoir(capacity, seed)
        for item in range(50):
            memory.offer(item)
        return memory.items

    assert filled(50, 0) == list(range(50))
    assert filled(5, 0) == filled(5, 0) != filled(5, 1)


def test_distillation_of_a_worked_example() -> None:
    # teacher 3/4 and 1/4 at temperature 2, student even; the third class is no old one
    teacher = torch.tensor([[2 * math.log(3), 0.0, 50.0]])
    student = torch.tensor([[1.0, 1.0, -7.0]])
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert distillation_loss(student, teacher, [0, 1]).item() == pytest.approx(expected, rel=1e-6)


def test_distillation_is_0_with_no_gradient_at_the_teacher_and_leaves_new_classes_alone() -> None:
    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    student = teacher.clone()
    student[:, 2] += 3
    student.requires_grad_()
    loss = distillation_loss(student, teacher, [0, 1]).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(student))
