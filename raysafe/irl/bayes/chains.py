"""Several chains of a sampler, in this process or as Ray tasks, kept part by part so that a second start goes on.

Each part of each chain has random numbers of its own, from (seed, chain, part): what comes out is the same whatever
the number of workers, and whether or not it was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysafe.errors import StorageError
from raysafe.irl.bayes.hamiltonian import Hamiltonian
from raysafe.irl.bayes.policy_walk import PolicyWalk
from raysafe.irl.bayes.sampler import Drawn, Sampler, State
from raysafe.irl.bayes.target import Target
from raysafe.rl.mdp import Floats
from raysafe.runtime.bar import Bar
from raysafe.runtime.cluster import Needs, connect
from raysafe.runtime.storage import Folder

WINDOWS = (0.1, 0.2, 0.3, 0.4)
"""Shares of the warm-up: each window tunes itself by what the one before found."""
PARTS = 10
RETRIES = 3


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws after the warm-up."""

    draws_CNF: Floats
    densities_CN: Floats
    """Log posterior densities, up to their constant."""
    accepted_C: Floats
    """Shares of proposals that were accepted."""


def plan(warmup: int, draws: int) -> list[tuple[int, bool]]:
    """Draws of each part, and whether it is a window of the warm-up."""
    ends = np.rint(np.cumsum(WINDOWS) * warmup).astype(int)
    windows = [(int(size), True) for size in np.diff(ends, prepend=0) if size]
    parts = [(len(part), False) for part in np.array_split(np.arange(draws), min(PARTS, draws))]
    return windows + parts


def advance(
    target: Target, sampler: Sampler, state: State | None, seed: tuple[int, int, int], draws: int, warming: bool
) -> tuple[State, Drawn]:
    """One part of a chain; the first has no state yet."""
    rng = np.random.default_rng(seed)
    return sampler.advance(target, sampler.start(target, rng) if state is None else state, rng, draws, warming)


def run_chains(
    target: Target,
    sampler: PolicyWalk | Hamiltonian,
    *,
    chains: int,
    warmup: int,
    draws: int,
    seed: int,
    workers: int = 1,
    address: str | None = None,
    folder: Folder | None = None,
) -> Chains:
    """workers: one is this process, more are Ray tasks of a CPU each. folder: where finished parts are kept; those
    found there aren't drawn again. Raises StorageError where they are of another problem."""
    parts = plan(warmup, draws)
    keeper = Keeper(folder, fingerprint(target, sampler, seed, warmup, draws)) if folder else None
    done: list[list[Drawn]] = [[] for _ in range(chains)]
    states: list[State | None] = [None] * chains
    for chain in range(chains):
        while keeper and len(done[chain]) < len(parts) and (found := keeper.find(chain, len(done[chain]))):
            states[chain] = found[0]
            done[chain].append(found[1])

    def finish(chain: int, result: tuple[State, Drawn]) -> None:
        states[chain] = result[0]
        if keeper:
            keeper.keep(chain, len(done[chain]), *result)
        done[chain].append(result[1])
        bar.show(sum(part.draws_NF.shape[0] for one in done for part in one))

    def work(chain: int) -> tuple[Any, ...]:
        number = len(done[chain])
        return sampler, states[chain], (seed, chain, number), *parts[number]

    open_chains = [chain for chain in range(chains) if len(done[chain]) < len(parts)]
    if open_chains and workers > 1:
        connect(address, needs=Needs(workers=workers, cpus=1))
    with Bar("chains", total=chains * (warmup + draws), unit="draw") as bar:
        if workers > 1:
            _on_ray(target, open_chains, work, finish, lambda chain: len(done[chain]) < len(parts), workers)
        else:
            for chain in open_chains:
                while len(done[chain]) < len(parts):
                    finish(chain, advance(target, *work(chain)))
    kept = [one[-sum(not warming for _, warming in parts) :] for one in done]
    return Chains(
        np.stack([np.concatenate([part.draws_NF for part in one]) for one in kept]),
        np.stack([np.concatenate([part.densities_N for part in one]) for one in kept]),
        np.array([np.average([p.accepted for p in one], weights=[len(p.densities_N) for p in one]) for one in kept]),
    )


def _on_ray(
    target: Target,
    waiting: list[int],
    work: Callable[[int], tuple[Any, ...]],
    finish: Callable[[int, tuple[State, Drawn]], None],
    goes_on: Callable[[int], bool],
    workers: int,
) -> None:
    """At most `workers` parts at a time; those of one chain follow each other, and the shortest chains come first."""
    import ray

    task: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(advance)
    shared, running, waiting = ray.put(target), {}, list(waiting)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                chain = waiting.pop(0)
                running[task.remote(shared, *work(chain))] = chain
            ready, _ = ray.wait(list(running))
            chain = running.pop(ready[0])
            finish(chain, ray.get(ready[0]))
            if goes_on(chain):
                waiting.append(chain)
    finally:
        for reference in running:
            ray.cancel(reference)


class Keeper:
    """Parts of chains as safetensors files in a folder, each with the fingerprint of its problem."""

    def __init__(self, folder: Folder, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def find(self, chain: int, part: int) -> tuple[State, Drawn] | None:
        """None where it isn't there; raises StorageError where it is damaged or of another problem."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        name = _name(chain, part)
        if not self.folder.exists(name):
            return None
        try:
            arrays = load(self.folder.read(name))
        except SafetensorError as error:
            raise StorageError(f"{self.folder.join(name)} is damaged ({error}): delete it") from None
        if bytes(arrays.pop("fingerprint", np.empty(0, np.uint8))).decode() != self.fingerprint:
            raise StorageError(
                f"{self.folder.uri} keeps chains of other demonstrations or settings: give another folder, or delete it"
            )
        drawn = Drawn(arrays.pop("draws_NF"), arrays.pop("densities_N"), float(arrays.pop("accepted")[0]))
        return {name.removeprefix("state."): array for name, array in arrays.items()}, drawn

    def keep(self, chain: int, part: int, state: State, drawn: Drawn) -> None:
        from safetensors.numpy import save

        arrays = {f"state.{name}": np.ascontiguousarray(array) for name, array in state.items()}
        arrays |= {
            "fingerprint": np.frombuffer(self.fingerprint.encode(), np.uint8),
            "draws_NF": drawn.draws_NF,
            "densities_N": drawn.densities_N,
            "accepted": np.array([drawn.accepted]),
        }
        self.folder.write(_name(chain, part), save(arrays))


def fingerprint(target: Target, sampler: PolicyWalk | Hamiltonian, seed: int, warmup: int, draws: int) -> str:
    """Of all that decides what is drawn."""
    digest = hashlib.sha256(f"{target.prior!r} {sampler!r} {seed} {warmup} {draws}".encode())
    target.likelihood.describe(digest.update)
    return digest.hexdigest()


def _name(chain: int, part: int) -> str:
    return f"chain-{chain}-{part:03d}.safetensors"
