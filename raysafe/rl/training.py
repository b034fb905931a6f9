"""The loop of a training: the agent learns in rounds, the driver evaluates it, keeps checkpoints, and resumes.

Environments and draws begin anew at each checkpoint, from seeds that follow from the step alone: a run that was killed
and resumed takes the same steps again, and ends with the same weights as one that was never stopped.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from raysafe.errors import Interrupted
from raysafe.rl import checkpoint as checkpoints
from raysafe.rl.agent import Agent
from raysafe.rl.checkpoint import Position
from raysafe.rl.export import export_agent
from raysafe.runtime.progress import Progress
from raysafe.runtime.run import Run
from raysafe.runtime.signals import StopSignal

if TYPE_CHECKING:
    from raysafe.rl.job import RLJob

FRAMES = "artifacts/frames"


def train(job: RLJob, run: Run) -> None:
    """Train to the last step, to the target, or until Ctrl-C."""
    with Progress(run, job.job, first=f"starting {job.algorithm}") as progress, StopSignal(progress.say) as stop:
        agent = job.agent(run)
        try:
            Training(job, run, agent, progress, stop).train()
        finally:
            agent.close()


class Training:
    """State of the driver."""

    def __init__(self, job: RLJob, run: Run, agent: Agent, progress: Progress, stop: StopSignal) -> None:
        self.job, self.run, self.agent, self.progress, self.stop = job, run, agent, progress, stop
        self.position = Position()
        self.saved: int | None = None
        """Step of the last checkpoint."""
        self.best: int | None = None
        """Step of the best policy that was kept apart."""

    def train(self) -> None:
        self._resume()
        while not self._advance():
            pass
        self._finish()

    def _advance(self) -> bool:
        """The next thing to do; True where nothing is left."""
        position, job = self.position, self.job
        last = position.steps >= job.steps or position.ended is not None
        every = job.evaluation.every
        judged = position.evaluated == position.steps
        due = position.evaluated < 0 or last or position.steps // every > position.evaluated // every
        if due and not judged:
            self._evaluate()
            return False
        if self.saved != position.steps:
            if last or self.stop.wanted or (judged and self._checkpoint_due):
                self._save()
            elif judged and job.keeps_best and self.best != position.best_step == position.steps:
                checkpoints.write(self.run, position, self.agent.state(), checkpoints.BEST)
                self.best = position.steps
        if last:
            return True
        if self.stop.wanted:
            raise Interrupted(
                f"stopped at step {position.steps} with a checkpoint; go on with: raysafe runs resume {self.run.uri}"
            )
        self._iterate()
        return False

    @property
    def _checkpoint_due(self) -> bool:
        every, steps = self.job.checkpoint_every, self.position.steps
        return every is None or self.saved is None or steps // every > self.saved // every

    def _iterate(self) -> None:
        position, started = self.position, time.perf_counter()
        done = self.agent.iterate(position.steps)
        position.iteration += 1
        position.steps += done.steps
        position.episodes += done.episodes
        counters = {"iteration": position.iteration, "episodes": position.episodes}
        position.row = counters | done.figures | {"steps_per_s": done.steps / (time.perf_counter() - started)}
        self._tell(position.row)

    def _evaluate(self) -> None:
        """Judge the policy as it is, and note whether it is the best yet."""
        position, job = self.position, self.job
        episodes = self.agent.evaluate()
        figures = episodes.figures
        position.evaluated = position.steps
        value = figures["evaluation/return"]
        if episodes.admitted and (position.best is None or value > position.best):
            position.best, position.best_step = value, position.steps
        if episodes.admitted and job.target is not None and value >= job.target and position.steps < job.steps:
            position.ended = f"the mean return {value:.4g} reaches the target {job.target:g}"
            self.run.event("stopped-early", step=position.steps, why=position.ended, best_step=position.best_step)
        self._tell(position.row | figures)

    def _tell(self, row: dict[str, float]) -> None:
        step = self.position.steps
        self.run.log(step, dict(row))
        self.progress.record(step, row)
        self.progress.show(min(step, self.job.steps), self.job.steps, row)

    def _save(self) -> None:
        checkpoints.write(self.run, self.position, self.agent.state())
        self.saved = self.position.steps
        checkpoints.forget_old(self.run, self.job.keep_checkpoints, self.position.best_step)
        self._begin_leg()

    def _begin_leg(self) -> None:
        """Everything by chance begins anew, as it will where this checkpoint is resumed."""
        words = np.random.SeedSequence([self.job.seed, self.position.steps]).generate_state(1)
        self.agent.begin_leg(int(words[0] >> 1))

    def _resume(self) -> None:
        steps = checkpoints.complete_steps(self.run)
        if steps:
            self._load(steps[-1])
            self.saved = steps[-1]
            self.run.event("resumed", step=steps[-1])
        else:
            self.run.event("started")
        self._begin_leg()

    def _load(self, step: int) -> None:
        self.position, state = checkpoints.read(self.run, step)
        self.agent.restore(state, self.position)

    def _finish(self) -> None:
        """Go back to the best policy, which the report shows."""
        ended = self.position
        if self.job.keeps_best and ended.best_step is not None and ended.best_step != ended.steps:
            self._load(ended.best_step)
            self.run.event("rolled-back", step=ended.best_step)
        self._draw()
        export_agent(self.agent, self.run, self.job, self.position)
        self.run.event(
            "trained",
            step=ended.steps,
            iterations=ended.iteration,
            episodes=ended.episodes,
            best=ended.best,
            best_step=ended.best_step,
        )

    def _draw(self) -> None:
        """Pictures for the report; what an environment lacks to draw them costs a sentence there, not the run."""
        try:
            frames = self.agent.frames()
        except DependencyNotInstalled as error:
            self.run.event("not-drawn", reason=str(error))
            return
        for number, frame in enumerate(frames):
            self.run.folder.write(f"{FRAMES}/{number:03d}.png", png(frame))


def png(frame_HWC: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file's bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame_HWC).save(file, format="PNG")
    return file.getvalue()
