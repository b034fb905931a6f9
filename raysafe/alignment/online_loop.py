"""The loop of online training. The driver is its only controller: it hands out work and keeps the position.

A step: write answers, score them, compute advantages, update. A lost process ends the step, not the run: engines,
reference and reward are rebuilt and the step begins again with the same answers; a trained role goes back, with all of
the run, to the last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from raysafe.alignment import online_state as states
from raysafe.alignment.advantages import adapted_kl_coefficient
from raysafe.alignment.experience import Samples, minibatches, token_places
from raysafe.alignment.online_data import Prompts
from raysafe.alignment.online_state import Position
from raysafe.alignment.placing import group_specs
from raysafe.alignment.rollouts import Writer
from raysafe.alignment.watch import parting, rows_of, sample_figures, standard_error
from raysafe.errors import Interrupted, RaySafeError, TrainingError
from raysafe.runtime.batches import deal, step_rows
from raysafe.runtime.group import GroupLost
from raysafe.runtime.progress import Progress
from raysafe.runtime.run import Run
from raysafe.runtime.signals import StopSignal
from raysafe.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from raysafe.alignment.online import OnlineJob

EXAMPLES = "artifacts/answers.jsonl"
EXAMPLES_KEPT = 16


def train(job: OnlineJob, run: Run, prompts: dict[str, Prompts]) -> None:
    """Train to the last step, or until the watch ends it; leaves the best model in the run's model/."""
    with (
        # it says on its own what it waits for
        Supervisor(
            group_specs(job),
            note=run.event,
            deadline_s=job.deadline_s,
            max_restarts=job.max_failures,
            address=job.address,
        ) as supervisor,
        Progress(run, job.job, first="answering the validation prompts") as progress,
        StopSignal(progress.say) as stop,
    ):
        OnlineLoop(job, run, prompts, supervisor, progress, stop).train()


class OnlineLoop:
    """State of the driver."""

    def __init__(
        self,
        job: OnlineJob,
        run: Run,
        prompts: dict[str, Prompts],
        supervisor: Supervisor,
        progress: Progress,
        stop: StopSignal,
    ) -> None:
        self.job, self.run, self.supervisor, self.progress, self.stop = job, run, supervisor, progress, stop
        self.prompts, self.validation = prompts["train"], prompts["validation"]
        self.roles = {role: supervisor.role(role) for role in job.roles}
        self.together = any({"reference", "reward"} <= set(roles) for _, roles in job.role_pools.values())
        self.writer = Writer(job, self.roles["rollout"], self.roles["policy"])
        self.position = Position(kl_coefficient=job.kl_coefficient)
        self.saved: int | None = None
        """Step of the last checkpoint."""
        self.standing: frozenset[str] = frozenset()
        """Roles whose state is the position's; the others were just made."""
        self.referred: str | None = None
        """What the standing reference was loaded from, as `Position.reference`."""

    def train(self) -> None:
        """Steps until the end, a broken limit, or the user's Ctrl-C; every loss of a process on the way is mended."""
        finished = False
        while not finished:
            try:
                self._load()
                finished = self._advance()
            except GroupLost as lost:
                self._recover(lost)
        self.run.event(
            "trained",
            step=self.position.step,
            updates=self.position.updates,
            samples=self.position.samples,
            best=self.position.best,
            best_step=self.position.best_step,
            **({"ended": self.position.ended} if self.position.ended else {}),
        )

    def _advance(self) -> bool:
        """The next thing to do; True where nothing is left."""
        position, job = self.position, self.job
        last = position.step >= job.steps
        due = position.step % job.validate_every == 0 or last
        if due and position.validated < position.step:
            self._validate()
            return False
        ending = last or position.ended is not None
        wanted = due or self.stop.wanted or (job.checkpoint_every and position.step % job.checkpoint_every == 0)
        if (wanted or ending) and self.saved != position.step:
            self._save()
        if ending:
            self._export()
            return True
        if self.stop.wanted:
            raise Interrupted(
                f"stopped at step {position.step} with a checkpoint; go on with: raysafe runs resume {self.run.uri}"
            )
        self._step()
        return False

    def _step(self) -> None:
        """One batch of answers, learned from."""
        started = time.perf_counter()
        position, job = self.position, self.job
        prompts = self._step_prompts(position.step)
        samples = self.writer.write(prompts, position.step, version=position.step)
        if job.overlap and position.step + 1 < job.steps:
            self.writer.begin(self._step_prompts(position.step + 1), position.step + 1, version=position.step)
        written = time.perf_counter()
        self._score(samples, prompts)
        needs_old = job.minibatches * job.epochs > 1 or "critic" in self.roles
        if needs_old:
            samples.tokens["old_logps"] = self._figures("policy", samples)
        if "critic" in self.roles:
            samples.tokens["values"] = self._figures("critic", samples)
        scored = time.perf_counter()
        job.advantages(samples, position.kl_coefficient)
        rows = job.experience(samples, position.kl_coefficient, old=needs_old)
        parts = [
            part
            for epoch in range(job.epochs)
            for part in minibatches(rows, job.minibatches, seed=(job.seed, position.step, epoch))
        ]
        ready = time.perf_counter()
        total = job.steps * job.epochs * job.minibatches
        pending = {
            role: self.roles[role].start("update", rows, parts, step=position.updates, total_steps=total)
            for role in job.trained
        }
        figures: dict[str, float] = {}
        for role, answer in pending.items():
            answers: list[dict[str, float]] = answer.result()
            prefix = "" if role == "policy" else f"{role}_"
            figures |= {f"{prefix}{name}": value for name, value in answers[0].items()}
        ended = time.perf_counter()
        position.step += 1
        position.updates += len(parts)
        position.samples += len(samples.answers)
        position.tokens += int(samples.lengths_C.sum())
        watched = sample_figures(samples)
        row = (
            watched
            | figures
            | {"kl_coefficient": position.kl_coefficient, "samples": position.samples, "tokens": position.tokens}
            # updates between the weights that wrote the answers and those that learn from them
            | {"staleness": position.step - 1 - samples.version}
        )
        if job.kl_target is not None:
            position.kl_coefficient = adapted_kl_coefficient(
                position.kl_coefficient,
                watched["kl"],
                target=job.kl_target,
                samples=len(samples.answers),
                horizon=job.kl_horizon,
            )
        step_s = time.perf_counter() - started
        row |= {
            "sync_s": self.writer.sync_s,
            "generate_s": written - started - self.writer.sync_s,
            "score_s": scored - written,
            "update_s": ended - ready,
            "step_s": step_s,
            # what is neither generation, scoring nor gradient work
            "overhead": (ready - scored + step_s - (ended - started) + self.writer.sync_s) / step_s,
            "tokens_per_s": float(samples.lengths_C.sum()) / step_s,
        }
        position.row = row
        # the last step is validated at once, and shown with that
        self._tell(row, show=position.step < job.steps)
        if job.reference_refresh and position.step % job.reference_refresh == 0:
            self._refresh()

    def _step_prompts(self, step: int) -> Prompts:
        rows = step_rows(len(self.prompts), self.job.prompts_per_step, seed=self.job.seed, step=step)
        return self.prompts.take(rows)

    def _score(self, samples: Samples, prompts: Prompts) -> None:
        """Add the reference's log-probabilities and the rewards; what can't be scored leaves a checkpoint behind."""
        try:
            self._add_scores(samples, prompts)
        except RaySafeError:
            # the weights are those that wrote the answers: once the reward is mended, no step is taken again
            if self.saved != self.position.step:
                self._save()
            raise

    def _add_scores(self, samples: Samples, prompts: Prompts) -> None:
        """Roles in processes of their own work side by side."""
        if not any(text.strip() for text in samples.texts):
            raise TrainingError(
                f"step {self.position.step + 1}: all {len(samples.texts)} answers are empty, the policy ends its "
                "turn at once: start from a model that answers, or raise kl_coefficient"
            )
        take_reference = self._begin_reference(samples)
        if self.together:
            # in the same processes: they would push each other off the GPU between chunks
            take_reference()
        take_rewards = self._begin_rewards(samples, prompts)
        if not self.together:
            take_reference()
        take_rewards()

    def _begin_reference(self, samples: Samples) -> Callable[[], None]:
        """Ask the reference for its log-probabilities; returns what waits for them and adds them."""
        rows = samples.table()
        shares = deal([len(a) for a in samples.answers], self.roles["reference"].ranks)
        shares = [sorted(share) for share in shares if share]
        pending = self.roles["reference"].start_spread("logps", [(rows.take(share),) for share in shares])

        def take() -> None:
            ref_logps_N = np.zeros(len(samples.rollout_logps_N))
            for share, values in zip(shares, pending.result(), strict=True):
                ref_logps_N[token_places(samples.lengths_C, share)] = values
            samples.tokens["ref_logps"] = ref_logps_N

        return take

    def _begin_rewards(self, samples: Samples, prompts: Prompts) -> Callable[[], None]:
        """Ask for the rewards; returns what waits for them and adds them."""
        answers, ranks = prompts.answers(samples.group_C, samples.texts), self.roles["reward"].ranks
        parts = [part for rank in range(ranks) if len(part := np.arange(len(samples.texts))[rank::ranks])]
        chunks = [(answers.take(part),) for part in parts]
        pending = self.roles["reward"].start_spread("score", chunks, straggler_factor=self.job.straggler_factor)

        def take() -> None:
            scored: list[dict[str, np.ndarray]] = pending.result()
            for name in scored[0]:
                score_C = np.zeros(len(samples.texts))
                for part, scores in zip(parts, scored, strict=True):
                    score_C[part] = scores[name]
                samples.scores[name] = score_C

        return take

    def _figures(self, role: str, samples: Samples) -> np.ndarray:
        """A trained role's figure of every token, (N,)."""
        figures_N = np.zeros(len(samples.rollout_logps_N))
        for places, values in self.roles[role].call("figures", samples.table()):
            figures_N[token_places(samples.lengths_C, places)] = values
        return figures_N

    def _validate(self) -> None:
        """Answer the validation prompts, note whether this is the best yet, and whether the run has gone too far."""
        position, job = self.position, self.job
        samples = self.writer.write(self.validation, None, version=position.step)
        self._score(samples, self.validation)
        figures = sample_figures(samples) | {"step": float(position.step)}
        if "gold" in samples.scores:
            figures["gold_error"] = standard_error(samples.scores["gold"])
        position.history.append(figures)
        position.validated = position.step
        broken = job.watch.broken(figures, position.history[0])
        if not broken and (position.best is None or figures[job.monitor] > position.best):
            position.best, position.best_step, position.without_gain = figures[job.monitor], position.step, 0
        else:
            position.without_gain += 1
        if broken:
            position.ended = "; ".join(broken)
        elif job.watch.patience is not None and position.without_gain >= job.watch.patience:
            position.ended = f"{position.without_gain} validations without a better {job.monitor}"
        apart = parting(position.history)
        if apart is not None:
            self.run.event("reward-and-gold-part", step=position.step, warning=apart)
            self.progress.say(f"step {position.step}: {apart}")
            if job.watch.stop_on_parting:
                position.ended = apart
        if position.ended:
            self.run.event("stopped-early", step=position.step, why=position.ended, best_step=position.best_step)
        self.run.keep_examples(EXAMPLES, position.step, rows_of(samples, self.validation.messages, EXAMPLES_KEPT))
        named = {f"validation/{name}": value for name, value in figures.items() if name != "step"}
        self._tell(position.row | named)

    def _tell(self, row: dict[str, float], *, show: bool = True) -> None:
        self.run.log(self.position.step, dict(row))
        self.progress.record(self.position.step, row)
        if show:
            self.progress.show(self.position.step, self.job.steps, row)

    def _refresh(self) -> None:
        """The policy becomes the reference."""
        target = states.reference_of(self.position.step)
        self.roles["policy"].call("export", self.run.uri, target)
        self.position.reference = target
        self._load_reference()

    def _load_reference(self) -> None:
        """Bring the reference to the position's, which after a return to a checkpoint may be an earlier one."""
        wanted, reference = self.position.reference, self.roles["reference"]
        if wanted == self.referred:
            return
        if wanted is None:
            reference.call("load", self.job.reference or self.job.model)
        else:
            reference.call("load_from", self.run.uri, wanted)
        self.referred = wanted

    def _save(self) -> None:
        name = states.folder_of(self.position.step)
        for role in self.job.trained:
            self.roles[role].call("save", self.run.uri, f"{name}/{role}", {})
        states.write_state(self.run, self.position)
        self.saved = self.position.step
        states.forget_old(self.run, self.job.keep_checkpoints, self.position.best_step)
        states.forget_references(self.run)

    def _load(self) -> None:
        """Bring roles that were just made to where the run stands: its last checkpoint, if a trained role is new."""
        fresh = frozenset(self.job.roles) - self.standing
        if not fresh:
            return
        if fresh & set(self.job.trained):
            steps = states.complete_steps(self.run)
            if steps:
                self.position = states.read_state(self.run, steps[-1])
                for role in self.job.trained:
                    self.roles[role].call("restore", self.run.uri, f"{states.folder_of(steps[-1])}/{role}")
                self.saved = steps[-1]
                self.run.event("resumed", step=steps[-1])
            elif self.position.step:
                raise TrainingError("a trained role was lost before the first checkpoint: start the run again")
            else:
                self.run.event("started")
        if "reference" in fresh:
            self.referred = None
        self._load_reference()
        if fresh & {"rollout", "policy"}:
            self.writer.forget()
        self.standing = frozenset(self.job.roles)
        self.run.event("placed", where={role: [vars(w) for w in handle.where] for role, handle in self.roles.items()})

    def _recover(self, lost: GroupLost) -> None:
        self.progress.say(f"{lost}; rebuilding")
        self.standing -= self.supervisor.recover(lost)
        self.writer.drop_pending()

    def _export(self) -> None:
        """Write the best model, which may be an earlier step's."""
        best = self.position.best_step
        if best is not None and best != self.position.step:
            self.roles["policy"].call("restore", self.run.uri, f"{states.folder_of(best)}/policy")
            self.run.event("rolled-back", step=best)
        self.roles["policy"].call("export", self.run.uri, "model")
