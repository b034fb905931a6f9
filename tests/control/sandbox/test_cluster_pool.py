"""A pool of sandboxes on three raylets, two places among them, which lose processes and a node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysafe.control.sandbox.cluster_pool import ClusterPool
from raysafe.control.sandbox.result import SandboxUnavailable

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("isolation")]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.control.sandbox.pool_faults"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[3])
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"test"')]
    assert ended.returncode == 0, ended.stderr[-2000:]
    return {line["test"]: line for line in lines}


def test_places_are_on_different_nodes_and_results_in_the_order_of_the_jobs(seen: dict[str, Any]) -> None:
    assert seen["spread"]["nodes"] == 2
    assert seen["spread"]["said"] == [f"{at}\n" for at in range(8)]


def test_a_job_whose_place_dies_is_lost_and_said_to_be(seen: dict[str, Any]) -> None:
    assert seen["lost with a job"]["busy"] == 1
    [said] = seen["lost with a job"]["found"]
    assert "may have begun, so it isn't run again" in said


def test_places_that_die_before_a_job_begins_lose_none(seen: dict[str, Any]) -> None:
    assert seen["lost without a job"]["said"] == [f"{at}\n" for at in range(4)]


def test_a_lost_node_loses_what_had_begun_there_and_nothing_else(seen: dict[str, Any]) -> None:
    assert sorted(seen["lost node"]["said"]) == ["1\n", "2\n", "2\n", "2\n", "2\n", "lost"]


def test_a_pool_that_was_not_started_runs_nothing() -> None:
    pool = ClusterPool()
    pool._free.put(None)
    with pytest.raises(SandboxUnavailable, match="never started"):
        pool.run("pass")
