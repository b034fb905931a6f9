"""Training on bounds, so that certificates hold: IBP (Gowal et al. 2018) and CROWN-IBP (Zhang et al. 2020).

The loss is the cross-entropy of the logits in the worst case, weighed against that of the clean ones, while epsilon
grows along a schedule; CROWN-IBP's bounds begin as those of lines and end as those of intervals.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysafe.robustness.adversarial_training import Batch, Metrics, NetworkConfig, RobustLearner, hits, trained
from raysafe.robustness.averaging import Averaged
from raysafe.robustness.certify.graph import Graph
from raysafe.robustness.certify.interval import box
from raysafe.robustness.certify.margins import interval_margins, linear_margins
from raysafe.robustness.settings import Defence
from raysafe.runtime.parallel import unwrapped

_AT_ONCE = 256


class CertifiedLearner(RobustLearner):
    """ibp and crown-ibp."""

    def __init__(self, defence: Defence, network: NetworkConfig, *, start: str | None = None, seed: int = 0) -> None:
        super().__init__(defence, network, start=start, seed=seed)
        self.traced: tuple[nn.Module, Graph] | None = None

    def train(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        logits_BK = module(batch.x)
        clean_B = cross_entropy(logits_BK, batch.y_B, reduction="none")
        metrics: Metrics = {"accuracy": hits(logits_BK, batch.y_B)}
        if self.ramp == 0:
            return clean_B, metrics
        lines = 1 - self.ramp if self.defence.method == "crown-ibp" else 0.0
        margins_BK = self.margins(trained(module), batch, self.ramp * self.defence.epsilon, lines)
        worst_B = cross_entropy(-margins_BK, batch.y_B, reduction="none")
        clean_share = 1 - self.ramp * (1 - self.defence.clean_weight)
        metrics["certified_accuracy"] = certified(margins_BK, batch)
        return clean_share * clean_B + (1 - clean_share) * worst_B, metrics

    def margins(self, network: nn.Module, batch: Batch, epsilon: float, lines: float) -> Tensor:
        """Lower bounds on logit y less each other, (B, K). lines: the share of CROWN-IBP's, the rest is of IBP's."""
        if self.traced is None or self.traced[0] is not network:
            self.traced = network, Graph(network)
        entries = self.traced[1].entries(box(batch.x, epsilon))
        if lines == 0:
            return interval_margins(entries, batch.y_B)
        margins_BK = linear_margins(entries, batch.y_B)
        return margins_BK if lines == 1 else lines * margins_BK + (1 - lines) * interval_margins(entries, batch.y_B)

    def validate(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().validate(module, batch)
        network = module.averaged().eval() if isinstance(module, Averaged) else unwrapped(module)
        sure = 0.0
        for rows in torch.arange(len(batch.y_B)).split(_AT_ONCE):
            part = Batch(batch.x[rows], batch.y_B[rows], batch.row_B[rows])
            margins_BK = self.margins(network, part, self.defence.epsilon, 0.0)
            if self.defence.method == "crown-ibp":
                margins_BK = torch.maximum(margins_BK, self.margins(network, part, self.defence.epsilon, 1.0))
            sure += float(certified(margins_BK, part)[0])
        return loss, metrics | {"certified_accuracy": (sure, batch.weight)}


def certified(margins_BK: Tensor, batch: Batch) -> tuple[Tensor, float]:
    """How many examples have every margin to another class above 0, and of how many."""
    own_BK = torch.zeros_like(margins_BK, dtype=torch.bool).scatter_(1, batch.y_B[:, None], True)
    return (own_BK | (margins_BK > 0)).all(-1).sum(), batch.weight
