"""`raysafe quickstart`: the whole line on a language of our own, with no download, in a few minutes on two cores.

Every stage is the code that any job runs; only the corpus, the judge and the settings belong to the quickstart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import raysafe
from raysafe.config import Job
from raysafe.errors import Interrupted
from raysafe.quickstart import jobs, review, service
from raysafe.quickstart.grammar import corpus_paths, write_corpus
from raysafe.quickstart.stages import Stages
from raysafe.quickstart.start import make_start
from raysafe.quickstart.summary import figure, print_summary, write_summary
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder

STAGES = 11
DETECTOR = "raysafe.quickstart.judge:behaviour"
JUDGE = "raysafe.quickstart.judge:prefer"


class Quickstart(Job):
    """From data to a reviewed, guarded service on a small made-up language, by the code of the real jobs."""

    job: ClassVar[str] = "quickstart"

    storage: str = Field("runs/quickstart", description="Local folder of its runs, store and audit log.")
    keep_serving: bool = Field(False, description="Leave the service up at the end, until Ctrl-C.")
    port: int = Field(0, ge=0, le=65535, description="Port of the service on 127.0.0.1; 0 takes a free one.")
    fresh: bool = Field(False, description="Start over, instead of reusing the stages that an earlier start finished.")

    def run(self, resume: Run | None = None) -> Run:
        """Go down the line; returns the run whose report.html tells the story."""
        folder = Folder(self.storage).local_path()
        run = resume or Run.create(self)
        fingerprint = f"raysafe {raysafe.__version__}, seed {self.seed}, {jobs.fingerprint()}"
        stages = Stages(folder, fingerprint, total=STAGES, fresh=self.fresh)
        try:
            self._go(run, stages, folder)
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted("stopped; `raysafe quickstart` with the same settings goes on from here") from None
        return run

    def _go(self, run: Run, stages: Stages, folder: Path) -> None:
        store = f"sqlite:///{folder / 'raysafe.db'}"
        with run.active():
            self._learn(stages, folder)
            self._examine(stages, folder, store)
            decided = self._review(stages, store)
            running, replies = self._serve(stages, store, decided, run)
        with running:
            with stages.step("audit", "verification of the audit log") as stage:
                stage.note = service.verify(store)
            write_summary(run, stages, replies, [*decided.facts, ["audit log", stage.note]])
            print_summary(stages, run, replies, running if self.keep_serving else None)
            if self.keep_serving:
                running.wait()

    def _learn(self, stages: Stages, folder: Path) -> None:
        """Corpus, starting model, SFT, reward model, DPO."""

        def note(run: Run) -> str:
            row = {key: value for row in run.metrics for key, value in row.items()}
            shown = (key for key in ("validation/loss", "validation/accuracy") if key in row)
            return ", ".join(f"{key} {row[key]:.3f}" for key in shown)

        corpus, start = corpus_paths(folder / "corpus"), folder / "start"
        with stages.step("corpus", "corpus of benign and harmful requests, and a model that knows nothing") as stage:
            stage.reused = stages.state.get("corpus") is not None
            if not stage.reused:
                make_start(start, write_corpus(folder / "corpus", self.seed), self.seed)
                stages.state.put("corpus", "written")
        make = jobs.training_jobs(self.storage, self.seed, self.address, start, corpus)
        sft = stages.run("sft", "fine-tuning on demonstrations, good and bad (SFT)", make["sft"], note)
        policy = sft.folder.join("model")
        stages.run("reward", "reward model from preference pairs", lambda: make["reward"](policy), note)
        stages.run("dpo", "preference training of the fine-tuned model (DPO)", lambda: make["dpo"](policy), note)

    def _examine(self, stages: Stages, folder: Path, store: str) -> None:
        """Register the models, then gather evidence on held-out requests, before and after."""
        review.register(stages.runs, store)
        corpus = corpus_paths(folder / "corpus")
        prompts, pairs = str(corpus["held_out_prompts"]), str(corpus["held_out_preferences"])
        model = {name: stages.runs[name].folder.join("model") for name in ("sft", "reward", "dpo")}

        def note(*metrics: str) -> Callable[[Run], str]:
            return lambda run: ", ".join(f"{metric} {figure(run, metric).value:.3f}" for metric in metrics)

        def examine(stage: str, title: str, metrics: tuple[str, ...], **fields: Any) -> None:
            job = jobs.examination(self.storage, store, self.seed, self.address, stage, **fields)
            stages.run(stage, title, lambda: job, note(*metrics))

        rates = ("unsafe_rate", "over_refusal_rate", "neither_rate")
        safety = {"suite": "safety-prompts", "data": prompts, "detector": DETECTOR}
        ranking = {"suite": "preference-accuracy", "data": pairs, "model": model["reward"]}
        contest = {"suite": "win-rate", "data": prompts, "judge": JUDGE, "reference": model["sft"]}
        examine("safety_before", "held-out requests to the fine-tuned model", rates, model=model["sft"], **safety)
        examine("safety_after", "the same requests after DPO", rates, model=model["dpo"], **safety)
        examine("reward_accuracy", "held-out pairs to the reward model", ("accuracy",), **ranking)
        examine("win_rate", "whose answers are better: DPO's or SFT's?", ("win_rate",), model=model["dpo"], **contest)

    def _review(self, stages: Stages, store: str) -> review.Decided:
        with stages.step("review", "review of the evidence by the demo policy") as stage:
            decided = review.decide(store, review.NAMES["dpo"])
            stage.note = decided.sentence
        return decided

    def _serve(self, stages: Stages, store: str, decided: review.Decided, run: Run) -> tuple[Any, list[service.Reply]]:
        corpus = corpus_paths(Folder(self.storage).local_path("corpus"))
        with stages.step("serve", "the approved model behind its guards, and three requests to it") as stage:
            running = service.start(store, decided.model, self.port, self.address, run.name)
            try:
                replies = service.try_out(running, service.choose_prompts(corpus["held_out_prompts"]))
            except BaseException:
                running.stop()
                raise
            stage.note = running.url
        return running, replies
