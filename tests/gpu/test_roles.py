"""Roles that share one GPU: the one at work is there, the idle ones are in the host's memory."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from raysafe.alignment.roles import ReferenceFactory, RolloutFactory
from raysafe.models.packing import Layout
from raysafe.models.sizing import find_shape
from raysafe.runtime.member import Host
from tests.alignment.online_parts import Case

MODEL = "preset:small"
BYTES = 4 * find_shape(MODEL).parameters


@pytest.fixture
def before() -> tuple[int, int]:
    """Bytes that are allocated and reserved without any role."""
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()


@pytest.fixture
def host(before: tuple[int, int]) -> Host:
    host = Host("all", 0, 1, 1, 0, 1.0)
    roles: dict[str, Any] = {
        "rollout": RolloutFactory(MODEL, MODEL, "auto", "transformers", "float32"),
        "reference": ReferenceFactory(MODEL, Layout(), 512, "float32"),
    }
    assert host.build(roles, fake_gpus=False) is None
    return host


def on_gpu(host: Host) -> dict[str, bool]:
    return {
        "rollout": next(host.parts["rollout"].engine.model.parameters()).is_cuda,
        "reference": next(host.parts["reference"].policy.parameters()).is_cuda,
    }


def test_a_role_that_is_called_comes_and_the_others_leave(host: Host) -> None:
    assert on_gpu(host) == {"rollout": False, "reference": True}
    host.call("rollout", "onload", (), {})
    assert on_gpu(host) == {"rollout": True, "reference": False}
    rows, _ = Case("token").experience()
    found = host.call("reference", "logps", (rows,), {})
    assert isinstance(found, np.ndarray), found
    assert on_gpu(host) == {"rollout": False, "reference": True}


def test_one_roles_weights_are_on_the_gpu_at_a_time_and_what_left_is_free_for_other_processes(
    before: tuple[int, int], host: Host
) -> None:
    host.call("rollout", "onload", (), {})
    assert torch.cuda.memory_allocated() - before[0] == pytest.approx(BYTES, rel=0.2)
    # the allocator reserves in blocks of 2 and 20 MiB
    assert torch.cuda.memory_reserved() - before[1] < BYTES + (24 << 20)
