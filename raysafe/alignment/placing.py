"""Which processes host which roles: colocated, split, or mixed as the names of the pools say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from raysafe.runtime.placement import Pool

if TYPE_CHECKING:
    from raysafe.alignment.online import OnlineJob
    from raysafe.runtime.group import GroupSpec

Placement = Literal["colocated", "split", "mixed"]
POOL_OF_ALL = "all"


def pools_of(
    placement: Placement, pools: Mapping[str, Pool], roles: tuple[str, ...], default: Pool
) -> dict[str, tuple[str, ...]]:
    """Roles by the name of their pool; raises ValueError where the pools' names don't fit the placement."""
    if placement == "colocated":
        hosted = {POOL_OF_ALL: roles}
    elif placement == "split":
        hosted = {role: (role,) for role in roles}
    else:
        hosted = {name: tuple(name.split("+")) for name in pools}
        named = [role for several in hosted.values() for role in several]
        wrong = sorted(set(named) ^ set(roles)) or sorted(role for role in roles if named.count(role) > 1)
        if wrong:
            raise ValueError(
                f"mixed pools are named by the roles in them, joined by +, each role once: {wrong[0]!r} is "
                f"{'no role' if wrong[0] not in roles else 'missing or there twice'}; roles: {', '.join(roles)}"
            )
    strange = sorted(set(pools) - set(hosted))
    if strange:
        raise ValueError(f"there is no pool '{strange[0]}' when {placement}: name {', '.join(hosted)}")
    return hosted


def group_specs(job: OnlineJob) -> list[GroupSpec]:
    """The groups of actors of a job."""
    from raysafe.alignment.rewards import weighted
    from raysafe.alignment.roles import ReferenceFactory, RewardFactory, RolloutFactory, TrainerFactory
    from raysafe.runtime.group import GroupSpec

    tokenizer = job.tokenizer or job.model
    factories: dict[str, Any] = {
        role: TrainerFactory(learner, job.optim(role), job.seed) for role, learner in job.learners().items()
    }
    training = job.training
    factories["rollout"] = RolloutFactory(job.model, tokenizer, job.chat_template, job.engine, training.precision)
    factories["reference"] = ReferenceFactory(
        job.reference or job.model, job.layout, training.micro_tokens, training.precision
    )
    sources = weighted(job.rewards, job.reward_weights)
    factories["reward"] = RewardFactory(sources, job.gold, job.ensemble_options)
    return [
        GroupSpec(
            name=name,
            pool=pool,
            roles={role: factories[role] for role in roles},
            collective=bool(set(roles) & set(job.trained)),
        )
        for name, (pool, roles) in job.role_pools.items()
    ]
