"""What a checkpoint keeps of an RLlib algorithm, and how it comes back.

RLlib's own restore loses on the way: it hands the runners the lifetime counter before it has read it, so that schedules
begin anew; the KL's adapted weight, the time of the target network's last renewal and DQN's memory aren't in its state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_METRICS_LOGGER
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_EPISODES_LIFETIME
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

if TYPE_CHECKING:
    from raysafe.rl.checkpoint import Position


def algorithm_state(algorithm: Any) -> dict[str, Any]:
    """Network, optimiser and learner's own state; connectors' statistics; the memory."""
    learner = dict(algorithm.learner_group.get_state()[COMPONENT_LEARNER])
    learner.pop(COMPONENT_METRICS_LOGGER, None)
    # a function, or nothing: the config has it
    learner.pop("should_module_be_updated", None)
    memory = getattr(algorithm, "memory", None)
    return {
        "learner": learner,
        "connectors": connector_states(algorithm.env_runner._env_to_module),
        "memory": memory.state() if memory is not None else {},
    }


def restore_algorithm(algorithm: Any, state: dict[str, Any], position: Position) -> None:
    """Bring an algorithm to where it was, wherever it stands."""
    learner = {**state["learner"], "weights_seq_no": 0}
    algorithm.learner_group.set_state({COMPONENT_LEARNER: learner})
    runner = algorithm.env_runner
    set_connector_states(runner._env_to_module, state["connectors"])
    _count(algorithm, position)
    runner.num_env_steps_sampled_lifetime = position.steps
    algorithm._iteration = position.iteration
    if algorithm.env_runner_group.num_remote_workers():
        algorithm.env_runner_group.sync_env_runner_states(
            config=algorithm.config,
            from_worker=runner,
            env_steps_sampled=position.steps,
            env_to_module=algorithm.env_to_module_connector,
            module_to_env=algorithm.module_to_env_connector,
        )
    algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)
    if getattr(algorithm, "memory", None) is not None:
        algorithm.memory.set_state(state["memory"])


def _count(algorithm: Any, position: Position) -> None:
    """Bring the lifetime counters to the position's, as a runner's report would: RLlib takes them in no other way."""
    report = MetricsLogger(stats_cls_lookup=algorithm.config.stats_cls_lookup, root=False)
    for name, value in (
        (NUM_ENV_STEPS_SAMPLED_LIFETIME, position.steps),
        (NUM_EPISODES_LIFETIME, position.episodes),
    ):
        already = algorithm.metrics.peek((ENV_RUNNER_RESULTS, name), default=0)
        throughput = name == NUM_ENV_STEPS_SAMPLED_LIFETIME
        report.log_value(name, value - already, reduce="lifetime_sum", with_throughput=throughput)
    algorithm.metrics.aggregate([report.reduce()], key=ENV_RUNNER_RESULTS)


def connector_states(pipeline: Any) -> list[dict[str, Any]]:
    """Of each connector in order; most have none."""
    return [piece.get_state() for piece in pipeline.connectors]


def set_connector_states(pipeline: Any, states: list[dict[str, Any]]) -> None:
    for piece, state in zip(pipeline.connectors, states, strict=True):
        piece.set_state(state)
