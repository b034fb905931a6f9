"""One small network for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.control.sandbox.proxy.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()
