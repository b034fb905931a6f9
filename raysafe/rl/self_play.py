"""`raysafe self-play`: an agent learns a two-player game against a league of its past selves. RLlib's PPO trains it.

In each game the learner sits at one place, drawn at random, and a past self at the other. Between iterations the past
selves in play are drawn anew from the league (league.py), and now and then the learner's policy joins it. The players
see the game alike: one policy plays either seat.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from raysafe.config import Job
from raysafe.errors import ConfigError
from raysafe.rl import checkpoint as checkpoints
from raysafe.rl.checkpoint import Position
from raysafe.rl.league import League, Matching
from raysafe.rl.ppo import PPOSettings
from raysafe.rl.settings import SamplingSettings
from raysafe.runtime.functions import load_function
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    from raysafe.rl.policy import Policy


class SelfPlayJob(Job):
    """Learn a two-player game against past selves."""

    job: ClassVar[str] = "self-play"

    env: str = Field(description="The game, as module:Class of an RLlib MultiAgentEnv with two agents.")
    env_config: dict[str, Any] = Field(default_factory=dict, description="What the game is made with.")
    steps: int = Field(default=100_000, ge=1, description="Environment steps to learn from.")
    slots: int = Field(default=4, ge=1, description="Past selves in play at a time.")
    matching: Matching = Field(
        default="uniform",
        description="Which past selves are played: uniform (all alike, whose average is sought), hard (the oftener the "
        "more they win), or first (always the untrained one: a control).",
    )
    snapshot_every: int = Field(default=1, ge=1, description="Iterations between snapshots that join the league.")
    rating_step: float = Field(default=16.0, gt=0, allow_inf_nan=False, description="Elo's K.")
    ppo: PPOSettings = PPOSettings(batch_size=1024, minibatch_size=256, epochs=4, schedule="constant")
    sampling: SamplingSettings = SamplingSettings(envs=16)

    @model_validator(mode="after")
    def _constant_rate(self) -> Self:
        if self.ppo.schedule != "constant":
            raise ValueError("ppo.schedule must be constant: opponents change throughout, and so must the learner")
        return self

    def make_env(self) -> MultiAgentEnv:
        """The game; raises ConfigError where it is no game of two that see and act alike."""
        from ray.rllib.env.multi_agent_env import MultiAgentEnv

        made = load_function(self.env, "env")(**self.env_config)
        if not isinstance(made, MultiAgentEnv) or len(made.possible_agents) != 2:
            raise ConfigError(f"env: {self.env} must make an RLlib MultiAgentEnv with two possible_agents")
        first, second = made.possible_agents
        if made.get_observation_space(first) != made.get_observation_space(second) or (
            made.get_action_space(first) != made.get_action_space(second)
        ):
            raise ConfigError(f"env: the two agents of {self.env} must have the same spaces: one policy plays either")
        return made

    def run(self, resume: Run | None = None) -> Run:
        """Learn; leaves metrics, the league and the last policy as model/ in the run."""
        from raysafe.runtime.bar import Bar

        env = self.make_env()
        run = resume or Run.create(self)
        with run.active(), Bar("self-play", total=self.steps) as bar:
            _Training(self, env, run).go_on(bar)
        return run


class _Training:
    def __init__(self, job: SelfPlayJob, env: MultiAgentEnv, run: Run) -> None:
        self.job, self.env, self.run = job, env, run
        self.algorithm: Any = _built(job, env)
        self.league = League(job.rating_step)
        self.position = Position()
        self.in_play: list[int] = []

    def go_on(self, bar: Any) -> None:
        """From where the run stands to its last step."""
        try:
            if steps := checkpoints.complete_steps(self.run):
                self._restore(steps[-1])
            else:
                self.league.add(self.policy(), 0)
                self._save()
            while self.position.steps < self.job.steps:
                self._iterate()
                bar.show(min(self.position.steps, self.job.steps), f"rating {self.league.rating:.0f}")
            self._finish()
        finally:
            self.algorithm.stop()

    def policy(self) -> Policy:
        """The learner as it is now."""
        from raysafe.rl.past_self import LEARNER
        from raysafe.rl.rllib_policy import policy_of

        runner: Any = self.algorithm.env_runner
        agent = self.env.possible_agents[0]
        spaces = self.env.get_observation_space(agent), self.env.get_action_space(agent)
        card = {"env": self.job.env, "algorithm": "PPO", "run": self.run.name, "steps": self.position.steps}
        return policy_of(runner.module[LEARNER], runner._env_to_module, *spaces, card)

    def _iterate(self) -> None:
        self._seat()
        result = self.algorithm.train()
        self.position.iteration += 1
        self.position.steps += int(result["env_runners"]["num_env_steps_sampled"])
        games = [game for found in self.algorithm.env_runner_group.foreach_env_runner(_take_games) for game in found]
        scores = [(self.in_play[int(slot.rpartition("_")[2])], score) for slot, score in games]
        self.league.record(scores)
        values = {"rating": self.league.rating, "games": float(len(scores)), "league": float(len(self.league.policies))}
        if scores:
            values["win_rate"] = float(np.mean([score for _, score in scores]))
        learned = result.get("learners", {}).get("learner", {})
        values |= {name: float(learned[name]) for name in ("entropy", "total_loss") if name in learned}
        self.run.log(self.position.steps, values)
        if self.position.iteration % self.job.snapshot_every == 0:
            self.league.add(self.policy(), self.position.steps)
            self._save()

    def _seat(self) -> None:
        """Draw the past selves of the next games."""
        from raysafe.rl.past_self import slot_name

        generator = np.random.default_rng([self.job.seed, self.position.iteration])
        self.in_play = self.league.draw(self.job.slots, self.job.matching, generator)
        chosen = {slot_name(slot): self.league.policies[member] for slot, member in enumerate(self.in_play)}
        seed = int(generator.integers(1 << 62))

        def seat(runner: Any) -> None:
            for number, (name, policy) in enumerate(chosen.items()):
                runner.module[name].seat(policy, seed + 1_000 * runner.worker_index + number)

        self.algorithm.env_runner_group.foreach_env_runner(seat)

    def _save(self) -> None:
        """The league, then a checkpoint: whoever reads that finds the league."""
        from raysafe.rl.state import algorithm_state

        self.league.save(self.run.folder)
        state = {"algorithm": algorithm_state(self.algorithm), "league": self.league.table()}
        checkpoints.write(self.run, self.position, state)
        checkpoints.forget_old(self.run, 1, None)

    def _restore(self, step: int) -> None:
        from raysafe.rl.state import set_connector_states

        self.position, state = checkpoints.read(self.run, step)
        self.league = League.load(self.run.folder, self.job.rating_step, state["league"])
        kept, group = state["algorithm"], self.algorithm.env_runner_group
        self.algorithm.learner_group.set_state({"learner": {**kept["learner"], "weights_seq_no": 0}})
        set_connector_states(self.algorithm.env_runner._env_to_module, kept["connectors"])
        group.sync_weights(from_worker_or_learner_group=self.algorithm.learner_group, inference_only=True)
        self.run.event("resumed", step=step)

    def _finish(self) -> None:
        from raysafe.rl.export import write_model
        from raysafe.runtime.report import Section, write_report

        self._save()
        policy = self.policy()
        with tempfile.TemporaryDirectory() as local:
            write_model(policy, local, self.run)
            self.run.folder.upload(local, "model")
        rows = [list(row) for row in self.league.rows()]
        about = f"The learner's rating is {self.league.rating:.0f}; a past self has the one that it had then."
        write_report(self.run, title=f"Self-play: {self.job.env}", sections=[Section("League", about, rows)])


def _take_games(runner: Any) -> list[tuple[str, float]]:
    games, runner.games = getattr(runner, "games", []), []
    return games


def _built(job: SelfPlayJob, env: MultiAgentEnv) -> Algorithm:
    """The algorithm; Ray is started or joined only where anything is to run in other processes."""
    import torch

    from raysafe.rl.build import quieten
    from raysafe.rl.local import build_locally
    from raysafe.rl.past_self import LEARNER
    from raysafe.runtime.cluster import connect

    torch.set_num_threads(1)
    quieten()
    if job.sampling.runners or job.sampling.learners or job.address:
        connect(job.address)
        return _config(job, env).build_algo()
    return build_locally(_config(job, env), LEARNER)


def _config(job: SelfPlayJob, env: MultiAgentEnv) -> PPOConfig:
    """RLlib's config: one module that learns, and as many that only play as there are slots."""
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.tune.registry import register_env

    from raysafe.rl.past_self import LEARNER, Games, PastSelf, Seats, slot_name
    from raysafe.rl.ppo_module import PPOModule

    register_env("raysafe-self-play", lambda settings: job.make_env())
    agents = [str(agent) for agent in env.possible_agents]
    spaces = env.get_observation_space(agents[0]), env.get_action_space(agents[0])
    network = DefaultModelConfig(
        fcnet_hiddens=list(job.ppo.network.hidden),
        fcnet_activation=job.ppo.network.activation,
        vf_share_layers=job.ppo.shared,
    )
    seen, done = spaces
    learner = RLModuleSpec(PPOModule, observation_space=seen, action_space=done, model_config=network)
    specs = {LEARNER: learner}
    for slot in range(job.slots):
        specs[slot_name(slot)] = RLModuleSpec(PastSelf, observation_space=spaces[0], action_space=spaces[1])
    config = job.ppo.config(job)  # type: ignore[arg-type]
    config.environment("raysafe-self-play")
    config.env_runners(
        num_env_runners=job.sampling.runners,
        num_envs_per_env_runner=job.sampling.envs or job.ppo.envs,
        num_cpus_per_env_runner=job.sampling.cpus_per_runner,  # type: ignore[arg-type]
        batch_mode="complete_episodes",
    )
    config.learners(num_learners=job.sampling.learners, num_gpus_per_learner=job.sampling.gpus_per_learner)
    config.multi_agent(
        policies=set(specs), policy_mapping_fn=Seats(agents, job.slots, job.seed), policies_to_train=[LEARNER]
    )
    config.rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs), model_config={})
    config.callbacks(Games)
    config.debugging(seed=job.seed, log_level="ERROR")
    return config
