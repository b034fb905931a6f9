"""Starting or joining Ray, once, and refusing a job that the machine or cluster can't hold before it starts."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ResourceError
from raysafe.runtime.autoscaler import node_types
from raysafe.runtime.placement import pack, rooms_of

if TYPE_CHECKING:
    from raysafe.runtime.placement import Pool

logger = logging.getLogger(__name__)


class Needs(Config):
    """What a job asks for: `workers` bundles of CPUs and GPUs, each on one node."""

    workers: int = Field(default=1, ge=1)
    cpus: float = Field(default=1, ge=0, description="CPUs per worker.")
    gpus: float = Field(default=0, ge=0, description="GPUs per worker.")


@dataclass(frozen=True)
class Node:
    """What one node has, or, with `count` > 1, what each of several nodes that may still be started would have."""

    name: str
    cpus: float
    gpus: float
    count: int = 1
    labels: Mapping[str, str] | None = field(default=None, compare=False)
    """None where they aren't known."""
    id: str = field(default="", compare=False)


def local_node() -> Node:
    """This machine, as Ray would see it; CUDA_VISIBLE_DEVICES is honoured."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager as Nvidia
    from ray._private.utils import get_num_cpus

    visible = Nvidia.get_current_process_visible_accelerator_ids()
    gpus = Nvidia.get_current_node_num_accelerators() if visible is None else len(visible)
    return Node("this machine", float(get_num_cpus()), float(gpus), labels={})


def fits(needs: Needs, nodes: list[Node]) -> bool:
    """Whether every worker finds a place on one of the nodes."""
    places = 0
    for node in nodes:
        by_cpu = node.cpus // needs.cpus if needs.cpus else float(needs.workers)
        by_gpu = node.gpus // needs.gpus if needs.gpus else float(needs.workers)
        places += int(min(by_cpu, by_gpu)) * node.count
    return places >= needs.workers


def refuse(needs: Needs, nodes: list[Node], where: str) -> ResourceError:
    """The error for needs that don't fit, with a table of asked and offered."""
    table = _table([("workers", needs.workers, needs.cpus, needs.gpus)], nodes)
    return ResourceError(
        f"{where} can't hold {needs.workers} worker(s) of {needs.cpus:g} CPUs and {needs.gpus:g} GPUs each: "
        f"lower workers, cpus_per_worker or gpus_per_worker, or use a larger cluster{_waiting(where)}\n{table}"
    )


def refuse_pools(pools: Mapping[str, Pool], first: str, nodes: Sequence[Node], where: str) -> ResourceError:
    """The error for pools that don't fit together, `first` being one that finds no place; with the same table."""
    pool = pools[first]
    on = f" on {pool.nodes} node(s)" if pool.nodes else ""
    labelled = " with labels " + ", ".join(f"{k}={v}" for k, v in pool.labels.items()) if pool.labels else ""
    beside = " beside the other pools" if len(pools) > 1 else ""
    asked = [(name, pool.workers, pool.cpus, pool.gpus) for name, pool in pools.items()]
    return ResourceError(
        f"{where} can't hold pool '{first}', {pool.workers} worker(s) of {pool.cpus:g} CPUs and {pool.gpus:g} GPUs "
        f"each{on}{labelled},{beside}: lower its workers, cpus or gpus, let roles share a pool, or use a larger "
        f"cluster{_waiting(where)}\n{_table(asked, nodes)}".replace(",:", ":")
    )


def _waiting(where: str) -> str:
    return "" if where == "this machine" else " (RAYSAFE_PREFLIGHT=0 waits for nodes that are not listed here)"


def _table(asked: Sequence[tuple[str, int, float, float]], nodes: Sequence[Node]) -> str:
    """What was asked (name, workers, CPUs and GPUs each) and what there is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in ("", "nodes", "CPUs each", "GPUs each"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, workers, cpus, gpus in asked:
        table.add_row(f"asked ({name})", str(workers), f"{cpus:g}", f"{gpus:g}")
    for node in nodes:
        table.add_row(f"offered: {node.name}", str(node.count), f"{node.cpus:g}", f"{node.gpus:g}")
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue().rstrip()


def connect(address: str | None = None, *, needs: Needs | None = None) -> None:
    """Start a local Ray, or join the one at `address` (or RAY_ADDRESS), unless this process has one already.

    Raises ResourceError where `needs` can't be met: before Ray is started when it is local, after joining otherwise,
    counting what the autoscaler may still add. From then on SIGTERM raises KeyboardInterrupt, as Ctrl-C does.
    """
    import ray

    if needs is not None:
        preflight(address, needs)
    address = address or os.environ.get("RAY_ADDRESS") or None
    if not ray.is_initialized():
        from rich.console import Console

        try:
            # some ten seconds: a terminal says what is waited for
            with Console(stderr=True).status(f"joining Ray at {address}" if address else "starting Ray"):
                ray.init(
                    # without an address Ray would join whatever cluster was last started on this machine
                    address=address or "local",
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                )
        except SystemExit as leaving:
            # Ray's own handler of SIGTERM, while it starts
            if leaving.code == signal.SIGTERM:
                raise KeyboardInterrupt from None
            raise
        except ConnectionError as error:
            raise ResourceError(f"can't join a Ray cluster at '{address}': {str(error).splitlines()[0]}") from None
        if threading.current_thread() is threading.main_thread():
            # Ray's handler leaves by sys.exit(), past what Ctrl-C cleans up, and its threads then abort the process
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        if needs is not None:
            preflight(None, needs)


def preflight(address: str | None, needs: Needs) -> None:
    """Raise ResourceError, before anything starts, where what the job would run on is known and can't hold it.

    That is the cluster that this process has joined, or else this machine, unless an address names another place.
    RAYSAFE_PREFLIGHT=0 lets a cluster pass whose autoscaler can't be asked.
    """
    offered = _offered(address)
    if offered and not fits(needs, offered[0]) and os.environ.get("RAYSAFE_PREFLIGHT") != "0":
        raise refuse(needs, *offered)


def preflight_pools(address: str | None, pools: Mapping[str, Pool]) -> None:
    """As `preflight`, for several pools that stand at the same time; raises ResourceError."""
    offered = _offered(address)
    if offered is None or os.environ.get("RAYSAFE_PREFLIGHT") == "0":
        return
    nodes, where = offered
    rooms = rooms_of(nodes, sum(pool.workers for pool in pools.values()))
    first = pack({name: (pool, pool.workers) for name, pool in pools.items()}, rooms)
    if first is not None:
        raise refuse_pools(pools, first, nodes, where)


def _offered(address: str | None) -> tuple[list[Node], str] | None:
    """The nodes that a job would run on, and what they are called; None where that is not known yet."""
    import ray

    if ray.is_initialized():
        return cluster_nodes(), "the cluster"
    if address or os.environ.get("RAY_ADDRESS"):
        return None
    return [local_node()], "this machine"


def cluster_nodes(wait_s: float = 2.0) -> list[Node]:
    """Alive nodes of the joined cluster and the node types that its autoscaler may add."""
    import ray

    deadline = time.monotonic() + wait_s
    while not (alive := [n for n in ray.nodes() if n["Alive"]]) and time.monotonic() < deadline:
        time.sleep(0.1)
    nodes = [described(node) for node in alive]
    return nodes + nodes_to_come(nodes)


def described(node: Mapping[str, Any]) -> Node:
    """A node as `ray.nodes()` lists it."""
    resources = node["Resources"]
    return Node(
        node["NodeManagerHostname"],
        resources.get("CPU", 0.0),
        resources.get("GPU", 0.0),
        labels=node.get("Labels"),
        id=node.get("NodeID", ""),
    )


def nodes_to_come(alive: list[Node]) -> list[Node]:
    """Nodes that the autoscaler may still start."""
    to_come = []
    for kind in node_types() or ():
        standing = sum(node.cpus == kind.cpus and node.gpus == kind.gpus for node in alive)
        if kind.most > standing:
            to_come.append(Node(f"{kind.name} (autoscaler)", kind.cpus, kind.gpus, kind.most - standing))
    return to_come
