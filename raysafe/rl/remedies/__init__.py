"""What helps where a reward says less than what was meant: one remedy for each of the eight gridworld problems."""

from collections.abc import Mapping

from raysafe.rl.remedies import (
    blindness,
    checkpoints,
    interruption,
    on_policy,
    own_choices,
    randomisation,
    reachability,
    shield,
)
from raysafe.rl.remedies.remedy import Remedy

__all__ = ["REMEDIES", "Remedy"]

REMEDIES: Mapping[str, Remedy] = {
    "SafeInterruptibility": interruption.REMEDY,
    "SideEffects": reachability.REMEDY,
    "AbsentSupervisor": blindness.REMEDY,
    "RewardGaming": checkpoints.REMEDY,
    "SelfModification": on_policy.REMEDY,
    "DistributionalShift": randomisation.REMEDY,
    "FriendFoe": own_choices.REMEDY,
    "SafeExploration": shield.REMEDY,
}
