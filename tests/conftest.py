"""Fixtures that every room shares. One Ray per test session; tokens off before Ray is imported."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

# spinning OpenMP threads fight over two cores: 10 s instead of 30 ms for a small backward pass, 2026-11
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_AUTH_MODE"] = "disabled"

import pytest
from hypothesis import settings

import raysafe  # noqa: F401
from tests.examples import examples
from tests.postgresql import postgresql, postgresql_socket  # noqa: F401

# how long an example takes says more of the machine's load than of the code
settings.register_profile("raysafe", deadline=None, max_examples=examples(100))
settings.load_profile("raysafe")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests without a Ray share the machine's cores; those with one have it to themselves."""
    return (os.cpu_count() or 1) if "not ray" in config.option.markexpr else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the session's Ray is marked so, before marks choose."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector needn't walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with two CPUs for the whole session."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def isolation() -> None:
    """Skips where this machine can't isolate a program: there, sandboxes refuse to run."""
    from raysafe.control.sandbox.opening import check_isolation
    from raysafe.control.sandbox.policy import Policy
    from raysafe.control.sandbox.result import SandboxUnavailable

    try:
        check_isolation(Policy())
    except SandboxUnavailable as error:
        pytest.skip(str(error))
