"""A policy learned from demonstrations in an environment, by copying or adversarial imitation; its true return."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PrivateAttr
from scipy import stats

from raysafe.data.trajectories import Trajectory
from raysafe.irl.adversarial import AdversarialExtension
from raysafe.irl.behavioural_cloning import CloningLearner, step_rows
from raysafe.irl.episodes import returns
from raysafe.irl.settings import AdversarialSettings, CloningSettings
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.rl.environment import EnvMaker
from raysafe.rl.extension import Extension
from raysafe.rl.job import RLJob
from raysafe.rl.policy import PolicyCard, load_policy
from raysafe.rl.ppo import PPOSettings
from raysafe.rl.settings import EvaluationSettings
from raysafe.runtime.plots import Series
from raysafe.runtime.progress import Progress
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run
from raysafe.runtime.signals import StopSignal

if TYPE_CHECKING:
    from raysafe.irl.job import IRLJob


def clone(
    job: IRLJob, run: Run, train: Sequence[Trajectory], held_out: Sequence[Trajectory], data_digest: str
) -> list[Section]:
    """Behavioural cloning by fit(): leaves the policy of the best held-out likelihood in model/."""
    from raysafe.runtime.fit import fit

    settings = job.cloning or CloningSettings()
    rows = step_rows(train)
    learner = CloningLearner(settings, card_of(job, run), rows)
    validation = step_rows(held_out) if held_out else None
    done = any(event["event"] == "trained" for event in run.events)
    if not done:
        fit(
            learner,
            run,
            settings.training,
            train=rows,
            validation=validation,
            seed=job.seed,
            address=job.address,
        )
    return judge(job, run, [*train, *held_out], data_digest)


class Imitation(RLJob):
    """The policy's side of adversarial imitation: RLJob with the discriminator's reward, and the last policy kept.

    The best one would be chosen by the true return, which an imitator doesn't know.
    """

    job: ClassVar[str] = "irl"
    keeps_best: ClassVar[bool] = False

    _extension: AdversarialExtension = PrivateAttr()

    @property
    def learned_by(self) -> str:
        return self._extension.objective.upper()

    @property
    def discriminating(self) -> AdversarialExtension:
        return self._extension

    @property
    def extensions(self) -> list[Extension]:
        return [*super().extensions, self._extension]

    @classmethod
    def of(cls, job: IRLJob, demonstrations: Sequence[Trajectory]) -> Imitation:
        """Raises DataError for demonstrations that can't be imitated so."""
        ppo = job.ppo or PPOSettings()
        made = cls(
            env=str(job.env),
            env_config=job.env_config,
            steps=job.steps,
            ppo=ppo,
            sampling=job.sampling,
            # the true return is only looked at, and seldom
            evaluation=EvaluationSettings(every=max(1, job.steps // 5)),
            storage=job.storage,
            name=job.name,
            seed=job.seed,
            address=job.address,
        )
        made._extension = AdversarialExtension(
            job.adversarial or AdversarialSettings(),
            "gail" if job.method == "gail" else "airl",
            demonstrations,
            gamma=ppo.gamma,
            steps=job.steps,
            seed=job.seed,
        )
        return made


def imitate(
    job: IRLJob, run: Run, train: Sequence[Trajectory], held_out: Sequence[Trajectory], data_digest: str
) -> list[Section]:
    """AIRL or GAIL: leaves the policy in model/ and the reward's networks in reward/."""
    from raysafe.rl.rllib_agent import RLlibAgent
    from raysafe.rl.training import Training

    inner = Imitation.of(job, train)
    with (
        Progress(run, job.job, first=f"starting {job.method}") as progress,
        StopSignal(progress.say) as stop,
        tempfile.TemporaryDirectory(prefix="raysafe-imitation-") as folder,
    ):
        agent = RLlibAgent(inner, run)
        try:
            Training(inner, run, agent, progress, stop).train()
        finally:
            agent.close()
        inner.discriminating.save(Path(folder, "reward"))
        run.folder.upload(Path(folder, "reward"), "reward")
    return judge(job, run, [*train, *held_out], data_digest)


def judge(job: IRLJob, run: Run, demonstrations: Sequence[Trajectory], data_digest: str) -> list[Section]:
    """The true return of the policy in model/, over episodes that nothing was learned from, beside the expert's."""
    with tempfile.TemporaryDirectory(prefix="raysafe-policy-") as folder:
        run.folder.download("model", folder)
        policy, digest = load_policy(folder), folder_digest(folder)
    found = returns(policy, EnvMaker(str(job.env), job.env_config), job.episodes, seed=job.seed)
    shown = [float(one.rewards_T.sum()) for one in demonstrations if one.rewards_T is not None]
    if not any(item.metric == "true_return" for item in run.evidence):
        run.add_evidence(
            [
                Evidence(
                    suite="irl",
                    metric="true_return",
                    value=float(found.mean()),
                    n=len(found),
                    interval=_interval(found),
                    model_digest=digest,
                    data_digest=data_digest,
                    settings={"method": job.method, "env": str(job.env)},
                    run=run.uri,
                )
            ]
        )
    run.event("judged", true_return=float(found.mean()), least=float(found.min()), episodes=len(found))
    return _sections(found, shown)


def card_of(job: IRLJob, run: Run) -> PolicyCard:
    """What a policy cloned for the job's environment is; raises ModelError for spaces that it can't act in."""
    from raysafe.rl.rllib_policy import space_of

    env = EnvMaker(str(job.env), job.env_config).make()
    observations, actions = space_of(env.observation_space), space_of(env.action_space)
    env.close()
    return PolicyCard(
        env=str(job.env),
        algorithm="BC",
        observations=observations,
        actions=actions,
        distribution="categorical" if actions.kind == "discrete" else "gaussian",
        run=run.name,
    )


def _interval(values_N: Any) -> tuple[float, float] | None:
    """95% interval of the mean by Student's t; None where all values are the same."""
    error = stats.sem(values_N)
    if not error > 0:
        return None
    low, high = stats.t.interval(0.95, len(values_N) - 1, loc=values_N.mean(), scale=error)
    return float(low), float(high)


def _sections(found: Any, shown: Sequence[float]) -> list[Section]:
    quantiles = np.linspace(0, 1, 21)
    curves = [Series("policy", quantiles.tolist(), np.quantile(found, quantiles).tolist())]
    rows: list[list[Any]] = [["whose", "episodes", "mean", "least", "greatest"]]
    rows.append(["policy", len(found), float(found.mean()), float(found.min()), float(found.max())])
    if shown:
        rows.append(["demonstrations", len(shown), float(np.mean(shown)), min(shown), max(shown)])
        curves.append(Series("demonstrations", quantiles.tolist(), np.quantile(shown, quantiles).tolist()))
    text = (
        "The environment's own reward, summed over episodes that nothing was learned from and no choice was made by. "
        "The plot shows quantiles: the share of episodes whose return is at most so much."
    )
    return [Section("True return", text, rows, {"true return by quantile": curves})]
