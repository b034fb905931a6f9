"""Learning without forgetting (Li and Hoiem 2016): on the new task's inputs, keep saying what the old model says."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def distillation_loss(
    logits_BK: Tensor, teacher_BK: Tensor, classes: Sequence[int], *, temperature: float = 2.0
) -> Tensor:
    """(B,): temperature^2 times KL(teacher | student) of the softened distributions over the old classes.

    Equation 2's cross-entropy less the teacher's own entropy, which has no gradient; the factor keeps gradients of the
    size that they have at temperature 1 (Hinton et al. 2015).
    """
    places = list(classes)
    student_BC = (logits_BK[:, places] / temperature).log_softmax(dim=1)
    teacher_BC = (teacher_BK[:, places] / temperature).log_softmax(dim=1)
    return temperature**2 * (teacher_BC.exp() * (teacher_BC - student_BC)).sum(dim=1)
