"""`raysafe adversarial`: train a classifier of images or features that holds against changed inputs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from raysafe.config import Job
from raysafe.errors import ConfigError, DataError
from raysafe.robustness.settings import CERTIFIED, AdversarialFit, Defence, Network
from raysafe.runtime.run import Run
from raysafe.runtime.trackers import TrackerName

if TYPE_CHECKING:
    from raysafe.data.labelled import Labelled
    from raysafe.models.mlp import ClassifierHead, Mlp
    from raysafe.models.vision import Vision
    from raysafe.robustness.adversarial_training import NetworkConfig, RobustLearner
    from raysafe.runtime.report import Section

HELD_OUT = "held-out.npz"
"""The test part, in the run: x, y and labels, as load_labelled reads them."""
PARTS = ("train", "validation", "test")


class AdversarialJob(Job, Defence):
    """Train a classifier that holds against changed inputs, and measure it on held-out ones.

    pgd trains on the worst inputs within epsilon, trades and mart weigh them against the clean ones, fast and free cost
    a fraction; ibp and crown-ibp train what can be certified, noise what can be smoothed; standard is the control.
    The checkpoint with the best figure on validation rows is the model: robust accuracy, by default.
    """

    job: ClassVar[str] = "adversarial"

    data: str = Field(
        description="digits, mnist, a folder with a folder of images for each class, .npz (x, y), a table with a label "
        "column, or a hub id."
    )
    limit: int | None = Field(default=None, ge=1, description="Take this many examples only, evenly of the classes.")
    validation_fraction: float = Field(
        default=0.15, gt=0, lt=1, description="Share of the examples that chooses the best checkpoint."
    )
    test_fraction: float = Field(
        default=0.25, ge=0, lt=1, description="Share kept away from training, as held-out.npz in the run."
    )
    model: str | None = Field(
        default=None, description="Folder of a classifier to go on from; a new network by default."
    )
    network: Network = Network()
    test_steps: int = Field(default=50, ge=1, le=10_000, description="Steps of the attack on the test examples.")
    training: AdversarialFit = AdversarialFit()
    track: tuple[TrackerName, ...] = Field(
        default=(), description="Send figures, settings and status there too: pip install 'raysafe[track]'."
    )
    track_project: str | None = Field(default=None, min_length=1, description="W&B project or MLflow experiment.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.check_method(set(self.model_fields_set))
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g} leave no "
                "rows to train on: their sum must be below 1"
            )
        known = ("auto", "loss", *self.measures)
        if self.training.monitor not in known:
            raise ValueError(
                f"training.monitor '{self.training.monitor}' is not measured here; choose one of {', '.join(known)}"
            )
        if self.training.sharding == "fsdp":
            raise ValueError("training.sharding must be ddp: attacks need the whole of these small networks")
        if self.weight_perturbation and self.training.workers > 1:
            raise ValueError("weight_perturbation needs training.workers 1: it is found on the whole batch")
        if self.model is not None and self.network != Network():
            raise ValueError("network has no effect beside model, which has a shape: leave one out")
        return self

    @property
    def fitting(self) -> AdversarialFit:
        """`training`, with the figure that chooses the checkpoint."""
        monitor = self.monitor if self.training.monitor == "auto" else self.training.monitor
        return self.training.model_copy(update={"monitor": monitor})

    def run(self, resume: Run | None = None) -> Run:
        """Train; leaves model/, held-out.npz and report.html in the run."""
        from raysafe.runtime.cluster import preflight
        from raysafe.runtime.report import write_report
        from raysafe.runtime.track import tracked
        from raysafe.runtime.trackers import check_trackers

        check_trackers(self.track)
        preflight(self.address, self.training.needs)
        run = resume or Run.create(self)
        with run.locked(), tracked(run, self.track, self.track_project), run.active():
            sections = self._work(run)
        write_report(run, sections=sections)
        return run

    def _work(self, run: Run) -> list[Section]:
        from raysafe.data.labelled import load_labelled
        from raysafe.robustness.adversarial_training import table
        from raysafe.robustness.report import keep_last, sections, test
        from raysafe.runtime.fit import fit

        labelled = load_labelled(self.data, limit=self.limit)
        parts = parts_of(labelled, self.validation_fraction, self.test_fraction, self.seed)
        self._record(run, labelled, parts)
        learner = learner_of(self, parts["train"])
        result = fit(
            learner,
            run,
            self.fitting,
            train=table(parts["train"]),
            validation=table(parts["validation"]),
            seed=self.seed,
            address=self.address,
        )
        keep_last(learner, run, result)
        if "test" in parts:
            test(self, run, parts["test"])
        return sections(self, run, result)

    def _record(self, run: Run, labelled: Labelled, parts: dict[str, Labelled]) -> None:
        import numpy as np

        run.record_input("data", self.data, labelled.digest)
        if self.model is not None:
            from raysafe.records.digest import folder_digest

            run.record_input("model", self.model, folder_digest(self.model))
        if "test" in parts:
            held = parts["test"]
            out = io.BytesIO()
            np.savez_compressed(out, x=held.x, y=held.y, labels=np.array(held.labels))
            run.folder.write(HELD_OUT, out.getvalue())
        run.event("data", rows={name: len(part) for name, part in parts.items()}, classes=len(labelled.labels))


def parts_of(labelled: Labelled, validation: float, test: float, seed: int) -> dict[str, Labelled]:
    """Train, validation and test examples; the last only where it has a share."""
    from raysafe.data.labelled import split

    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    return split(labelled, {name: share for name, share in shares.items() if share}, seed)


def learner_of(job: AdversarialJob, train: Labelled) -> RobustLearner:
    """The job's learner for these data; raises ConfigError where they don't go together."""
    from raysafe.robustness.adversarial_training import AdversarialLearner, FreeLearner, RobustLearner

    config = network_of(job, train)
    if not train.is_images and (train.x.min() < 0 or train.x.max() > 1):
        raise DataError(
            f"features must lie between 0 and 1, where changed inputs are kept, found {train.x.min():g} to "
            f"{train.x.max():g} in {job.data}: scale them"
        )
    if job.method in CERTIFIED:
        from raysafe.robustness.certified_training import CertifiedLearner

        kind: type[RobustLearner] = CertifiedLearner
    else:
        kind = {"standard": RobustLearner, "noise": RobustLearner, "free": FreeLearner}.get(
            job.method, AdversarialLearner
        )
    return kind(job, config, start=job.model, seed=job.seed)


def network_of(job: AdversarialJob, train: Labelled) -> NetworkConfig:
    """The shape of the network to train."""
    import numpy as np

    from raysafe.models.classifier import head_of, input_shape, labels_of, load_classifier
    from raysafe.models.mlp import ClassifierHead, Smoothing
    from raysafe.models.vision import VisionConfig, default_stages

    shape = train.x.shape[1:]
    # what was trained on noise is served under noise
    smoothing = Smoothing(sigma=job.sigma) if job.sigma is not None else None
    if job.model is not None:
        model: Mlp | Vision = load_classifier(job.model)
        if input_shape(model) != shape or labels_of(model) != train.labels:
            raise ConfigError(
                f"model {job.model} takes inputs of {input_shape(model)} in the classes {', '.join(labels_of(model))}; "
                f"{job.data} has {shape} in {', '.join(train.labels)}"
            )
        return model.config.model_copy(update={"head": head_of(model).model_copy(update={"smoothing": smoothing})})
    head, network = ClassifierHead(labels=train.labels, smoothing=smoothing), job.network
    if not train.is_images:
        return _vectors(job, shape[0], head)
    mean = std = None
    if network.normalise:
        wide = train.x.astype(np.float64)
        mean, std = tuple(wide.mean(axis=(0, 2, 3)).tolist()), tuple(wide.std(axis=(0, 2, 3)).tolist())
    return VisionConfig(
        image=shape,
        stages=network.stages or default_stages(shape),
        mean=mean,
        std=std,
        head=head,
        **network.model_dump(include={"blocks", "pooling", "dense", "activation", "batch_norm"}),
    )


def _vectors(job: AdversarialJob, inputs: int, head: ClassifierHead) -> NetworkConfig:
    from raysafe.models.mlp import MlpConfig

    network = job.network
    for_images = network.model_dump(include={"stages", "blocks", "pooling", "batch_norm", "normalise"})
    idle = [name for name, value in for_images.items() if value != Network.model_fields[name].default]
    if idle:
        raise ConfigError(f"network.{idle[0]} is for images, and {job.data} holds features: leave it out")
    return MlpConfig(inputs=inputs, hidden=network.dense, activation=network.activation, head=head)
