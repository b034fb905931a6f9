"""`raysafe continual`: one task after the other, and what that does to the earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from raysafe.config import Job
from raysafe.generalization.continual_settings import ContinualSettings
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.runtime.report import Section


class ContinualJob(Job, ContinualSettings):
    """Teach a classifier tasks one after the other, and measure how much it forgets.

    plain fine-tuning is the control. ewc keeps weights near where earlier tasks need them, rehearsal trains on kept
    examples of theirs, lwf on what the model said before. All classes have their output from the start. After each task
    the model is measured on all of them: the matrix of accuracies, backward and forward transfer, forgetting per task.
    """

    job: ClassVar[str] = "continual"

    def run(self, resume: Run | None = None) -> Run:
        """Train; leaves model/ (after the last task), tasks/ (after each), evidence.json and report.html in the run."""
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
        from raysafe.generalization.continual_run import learn
        from raysafe.generalization.images import resized
        from raysafe.generalization.tasks import divide, make_task, together

        read = [resized(load_labelled(name, limit=self.limit), self.size) for name in self.data]
        for name, labelled in zip(self.data, read, strict=True):
            run.record_input("data", name, labelled.digest)
        if self.model is not None:
            from raysafe.models.language import model_folder
            from raysafe.records.digest import folder_digest

            run.record_input("model", self.model, folder_digest(model_folder(self.model)))
        sets = divide(read[0], self.class_groups) if self.tasks else together(read)
        names = self.tasks or self.data
        tasks = [
            make_task(name, data, self.validation_fraction, self.test_fraction, self.seed)
            for name, data in zip(names, sets, strict=True)
        ]
        return learn(self, run, tasks)
