"""Settings of adversarial and certified training: the method is a field, and what it doesn't read must be left out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.runtime.learner import FitConfig

Method = Literal["standard", "noise", "pgd", "trades", "mart", "fast", "free", "ibp", "crown-ibp"]
Width = Annotated[int, Field(ge=1, le=4096)]
CERTIFIED = ("ibp", "crown-ibp")
_READ: dict[str, tuple[Method, ...]] = {
    "steps": ("pgd", "trades", "mart"),
    "step_size": ("pgd", "trades", "mart", "fast", "free"),
    "weight": ("trades", "mart"),
    "replays": ("free",),
    "sigma": ("noise",),
    "weight_perturbation": ("pgd", "trades", "mart", "fast"),
    "collapse": ("fast",),
    "schedule": ("pgd", "trades", "mart", "fast", "free", *CERTIFIED),
    "clean_weight": CERTIFIED,
}
"""Settings that only some methods read."""


class Network(Config):
    """Shape of a new network; its input and its classes come from the data."""

    stages: tuple[Width, ...] | None = Field(
        default=None, description="Images: channels of each stage; 32, 64 for small ones, 16, 32 for others by default."
    )
    blocks: int = Field(default=0, ge=0, le=64, description="Images: residual blocks in each stage.")
    pooling: Literal["max", "average", "stride"] = Field(default="max", description="Images: how a stage halves them.")
    dense: tuple[Width, ...] = Field(default=(64,), description="Features of each hidden dense layer.")
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    batch_norm: bool = Field(default=False, description="Images: normalise over the batch behind each convolution.")
    normalise: bool = Field(
        default=False, description="Normalise inputs, inside the network, by the training rows' mean and deviation."
    )


class Schedule(Config):
    """As shares of all steps: plain training, then epsilon grows from 0, then it stays."""

    start: float = Field(default=0.1, ge=0, lt=1, description="Where epsilon begins to grow.")
    end: float = Field(default=0.6, gt=0, le=1, description="Where it has reached its whole size.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start must lie before end, got {self.start:g} and {self.end:g}")
        return self

    def ramp(self, step: int, total_steps: int) -> float:
        """From 0 to 1, linearly between start and end."""
        done = step / max(1, total_steps)
        return min(1.0, max(0.0, (done - self.start) / (self.end - self.start)))


class AdversarialFit(FitConfig):
    """How the network is trained."""

    epochs: int = Field(default=40, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(default=64, ge=1, description="Rows per optimiser step, over all workers.")
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    monitor: str = Field(
        default="auto",
        description="Validation figure that chooses the best model; auto takes robust_accuracy, certified_accuracy of "
        "certified training, or noisy_accuracy of training with noise.",
    )
    monitor_mode: Literal["min", "max"] = "max"


class Defence(Config):
    """What the network is trained against, and measured against while it is."""

    method: Method = Field(
        description="standard, noise (for smoothing), pgd (Madry), trades, mart, fast (FGSM), free; or ibp and "
        "crown-ibp, which train what is certified."
    )
    epsilon: float = Field(gt=0, allow_inf_nan=False, description="Radius of the ball of changed inputs.")
    norm: Literal["linf", "l2"] = "linf"
    steps: int = Field(default=10, ge=1, le=1000, description="Steps of the attack in training.")
    step_size: float | None = Field(
        default=None, gt=0, description="Of one step; 2.5 epsilon / steps by default, fast 1.25 epsilon, free epsilon."
    )
    weight: float | None = Field(
        default=None, gt=0, description="Of the divergence from clean to adversarial; trades 6 and mart 5 by default."
    )
    replays: int = Field(default=8, ge=2, description="Steps that free training takes on each batch.")
    sigma: float | None = Field(
        default=None, gt=0, description="Standard deviation of the noise in training, and under which it is served."
    )
    weight_perturbation: float = Field(
        default=0.0, ge=0, lt=1, description="Adversarial weight perturbation, as a share of each tensor's norm (AWP)."
    )
    average: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of a running average of the weights, which is then the model."
    )
    collapse: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Fall of robust accuracy below its best, while FGSM still fails, at which fast training stops.",
    )
    schedule: Schedule | None = Field(
        default=None,
        description="How epsilon grows; whole from the first step by default, from 0.1 to 0.6 of the steps in "
        "certified training.",
    )
    clean_weight: float = Field(
        default=0.5, ge=0, le=1, description="Share of the clean loss in certified training's, once epsilon is whole."
    )
    validation_steps: int = Field(default=10, ge=1, le=1000, description="Steps of the attack on validation rows.")

    def check_method(self, given: set[str]) -> None:
        """Raise ValueError for a setting that was given and that the method doesn't read."""
        idle = sorted(name for name in given & _READ.keys() if self.method not in _READ[name] and not self._plain(name))
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect with method {self.method}: leave it out")
        if self.method == "noise" and self.sigma is None:
            raise ValueError("method noise needs sigma, the standard deviation of the noise in training")
        if self.method in CERTIFIED and self.norm != "linf":
            raise ValueError(f"method {self.method} bounds L-inf balls only: set norm to linf")

    def _plain(self, name: str) -> bool:
        default: Any = type(self).model_fields[name].get_default(call_default_factory=True)
        return getattr(self, name) == default

    @property
    def step(self) -> float:
        """Size of one step of the attack in training."""
        if self.step_size is not None:
            return self.step_size
        return self.epsilon * {"fast": 1.25, "free": 1.0}.get(self.method, 2.5 / self.steps)

    def ramp(self, step: int, total_steps: int) -> float:
        """Share of epsilon at a step."""
        schedule = self.schedule or (Schedule() if self.method in CERTIFIED else None)
        return 1.0 if schedule is None else schedule.ramp(step, total_steps)

    @property
    def divergence_weight(self) -> float:
        """Of trades and mart."""
        return self.weight if self.weight is not None else 5.0 if self.method == "mart" else 6.0

    @property
    def measures(self) -> tuple[str, ...]:
        """Figures of a validation, besides the loss."""
        own = {"noise": ("noisy_accuracy",), "fast": ("fgsm_accuracy",)}.get(self.method, ())
        return ("accuracy", "robust_accuracy", *own, *(("certified_accuracy",) if self.method in CERTIFIED else ()))

    @property
    def monitor(self) -> str:
        """The figure by which checkpoints are chosen, where none is named."""
        if self.method == "noise":
            return "noisy_accuracy"
        return "certified_accuracy" if self.method in CERTIFIED else "robust_accuracy"
