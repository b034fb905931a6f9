"""`raysafe transfer`: carry a classifier over to other data, with their labels or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from raysafe.config import Job
from raysafe.errors import DataError
from raysafe.generalization.transfer_settings import TransferSettings
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.data.labelled import Labelled
    from raysafe.runtime.report import Section


class TransferJob(Job, TransferSettings):
    """Carry a classifier over to other data.

    With labels of the target: full trains all layers, frozen the last one, gradual one after the other from the last
    down, discriminative each at its own rate, lora low-rank adapters; `comparison` trains from scratch beside it and
    says whether transfer helped, hurt, or neither can be told. Without them: coral, mmd and dann learn the source's
    labels while they bring the domains' features together; source is their control. Target labels then only measure
    the model at the end: the last one is kept, none is chosen.
    """

    job: ClassVar[str] = "transfer"

    def run(self, resume: Run | None = None) -> Run:
        """Train; leaves model/, evidence.json and report.html in the run."""
        from raysafe.runtime.cluster import preflight
        from raysafe.runtime.report import write_report

        preflight(self.address, self.training.needs)
        run = resume or Run.create(self)
        with run.active():
            sections = self._work(run)
        write_report(run, sections=sections)
        return run

    def _work(self, run: Run) -> list[Section]:
        from raysafe.data.labelled import load_labelled
        from raysafe.generalization.images import resized

        target = resized(load_labelled(self.data, limit=self.limit), self.size)
        run.record_input("data", self.data, target.digest)
        if self.model is not None:
            from raysafe.models.language import model_folder
            from raysafe.records.digest import folder_digest

            run.record_input("model", self.model, folder_digest(model_folder(self.model)))
        if not self.adapts:
            from raysafe.generalization.transfer_run import fine_tune

            return fine_tune(self, run, target)
        source = resized(load_labelled(str(self.source)), self.size)
        run.record_input("data", str(self.source), source.digest)
        check_domains(source, target)
        from raysafe.generalization.transfer_run import adapt

        return adapt(self, run, source, target)


def check_domains(source: Labelled, target: Labelled) -> None:
    """Raise DataError where a network of the source can't be used on the target."""
    if source.x.shape[1:] != target.x.shape[1:]:
        raise DataError(
            f"the source's inputs are {source.x.shape[1:]}, the target's {target.x.shape[1:]}: set size, where "
            "they are images that differ in height and width alone"
        )
    if source.labels != target.labels:
        raise DataError(
            f"the source's classes are {', '.join(source.labels)}, the target's {', '.join(target.labels)}: adaptation "
            "needs the same, in the same order"
        )
