"""Weights arrive as they were sent, or not at all; an engine with other ones says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import ray
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ObjectStoreFullError

from raysafe.errors import ResourceError
from raysafe.runtime.group import GroupSpec, Pool
from raysafe.runtime.supervisor import Supervisor
from raysafe.runtime.weights import DamagedWeights, StaleWeights, VersionedEngine, publish, receive, split
from raysafe.runtime.weights_collective import Channel, open_channel, weighted_sum
from tests.runtime.group_parts import Rollout, Trainer, tensors


class Store:
    """Ray's object store, in a dict: what is got is what was put, byte for byte and read only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.objects: list[list[np.ndarray]] = []
        self.got: list[int] = []
        monkeypatch.setattr(ray, "put", self.put)
        monkeypatch.setattr(ray, "get", self.get)
        monkeypatch.setattr(ray, "wait", lambda refs, **options: (refs, []))

    def put(self, arrays: list[np.ndarray]) -> int:
        self.objects.append([array.copy() for array in arrays])
        for array in self.objects[-1]:
            array.setflags(write=False)
        return len(self.objects) - 1

    def get(self, ref: int) -> list[np.ndarray]:
        self.got.append(ref)
        return self.objects[ref]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


class Engine:
    def __init__(self) -> None:
        self.weights: dict[str, Any] = {}

    def update_weights(self, weights: dict[str, Any]) -> None:
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(
        t.dtype == other[n].dtype and t.shape == other[n].shape and torch.equal(t, other[n]) for n, t in one.items()
    )


@pytest.mark.parametrize("first", [0, 1, 5])
def test_every_dtype_and_shape_arrives_bit_for_bit(store: Store, first: int) -> None:
    published = publish(tensors(1), 7, shard_bytes=200)
    assert len(published.shards) > 2 and published.version == 7
    assert published.bytes == sum(tensor.nbytes for tensor in tensors(1).values())
    assert equal(receive(published, first=first), tensors(1))


def test_nan_payloads_and_negative_zeros_survive(store: Store) -> None:
    bits = torch.tensor([0x7F81, 0x8000, 0xFFFF, 0x0001], dtype=torch.uint16)
    arrived = receive(publish({"w": bits.view(torch.bfloat16)}, 0))["w"]
    assert torch.equal(arrived.view(torch.uint16), bits)


def test_arrays_are_published_like_tensors(store: Store) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert torch.equal(receive(publish({"w": array}, 0))["w"], torch.from_numpy(array))


def test_engines_begin_at_different_shards(store: Store) -> None:
    published = publish({name: torch.zeros(100) for name in "abc"}, 0, shard_bytes=400)
    for first in range(4):
        store.got.clear()
        receive(published, first=first)
        assert store.got == [(first + place) % 3 for place in range(3)]


@pytest.mark.parametrize("name", ["embedding", "half", "mask", "scale"])
def test_a_flipped_bit_is_refused_and_the_engine_keeps_no_version(store: Store, name: str) -> None:
    published = publish(tensors(1), 3, shard_bytes=500)
    engine = VersionedEngine(Engine())
    engine.load(published)
    shard = next(i for i, s in enumerate(published.shards) if name in s.names)
    place = published.shards[shard].names.index(name)
    damaged = store.objects[shard][place].copy()
    damaged.reshape(-1).view(np.uint8)[-1] ^= 1
    store.objects[shard][place] = damaged
    with pytest.raises(DamagedWeights, match=rf"shard {shard} of weights version 3 arrived damaged"):
        engine.load(published)
    with pytest.raises(StaleWeights, match="has no published weights and was asked to use version 3"):
        engine.require(3)


def test_two_tensors_of_one_shape_cannot_be_swapped(store: Store) -> None:
    published = publish({"a": torch.zeros(4), "b": torch.ones(4)}, 0)
    store.objects[0].reverse()
    with pytest.raises(DamagedWeights):
        receive(published)


def test_a_stale_engine_names_both_versions(store: Store) -> None:
    engine = VersionedEngine(Engine(), rank=2)
    assert engine.load(publish(tensors(0), 4)) == 4
    engine.require(4)
    with pytest.raises(StaleWeights, match="engine 2 has version 4 and was asked to use version 5: load that version"):
        engine.require(5)


def test_a_full_store_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(arrays: list[np.ndarray]) -> None:
        raise ObjectStoreFullError("Failed to put object\nThe local object store is full")

    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(ResourceError, match=r"can't hold version 9 of the weights \(4 MB\): give its node") as refused:
        publish({"w": torch.zeros(1_000_000)}, 9)
    assert "\n" not in str(refused.value)


@given(sizes=st.lists(st.integers(0, 50), max_size=20), limit=st.integers(1, 60))
def test_shards_hold_every_name_once_in_order_and_no_more_than_the_limit(sizes: list[int], limit: int) -> None:
    named = {str(i): size for i, size in enumerate(sizes)}
    shards = split(named, limit)
    assert [name for shard in shards for name in shard] == list(named)
    assert all(len(shard) == 1 or sum(named[n] for n in shard) <= limit for shard in shards)


@given(seed=st.integers(0, 1000), place=st.integers(0, 63), bit=st.integers(0, 31))
def test_the_check_used_on_gpus_finds_a_flipped_bit_and_a_swap(seed: int, place: int, bit: int) -> None:
    words = torch.randint(-(2**31), 2**31 - 1, (64,), generator=torch.Generator().manual_seed(seed)).to(torch.int32)
    whole = weighted_sum(words.view(torch.uint8))
    flipped = words.numpy().view(np.uint32).copy()
    flipped[place] ^= np.uint32(1 << bit)
    assert weighted_sum(torch.from_numpy(flipped.view(np.uint8))) != whole
    swapped = words.roll(1)
    assert torch.equal(swapped, words) or weighted_sum(swapped.view(torch.uint8)) != whole


def test_a_channel_refuses_a_bucket_that_its_check_contradicts(monkeypatch: pytest.MonkeyPatch) -> None:
    from raysafe.runtime import weights_collective as module

    meeting = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    other = dist.TCPStore("127.0.0.1", meeting.port, 2, is_master=False, timeout=timedelta(seconds=20))
    found: list[Any] = []

    def receive_twice() -> None:
        channel = Channel(other, 1, 2, device="cpu", timeout_s=20)
        found.append(channel.receive())
        with pytest.raises(DamagedWeights, match="weights version 2 arrived damaged"):
            channel.receive()
        found.append("refused")

    thread = threading.Thread(target=receive_twice)
    thread.start()
    channel = Channel(meeting, 0, 2, device="cpu", timeout_s=20)
    channel.send(tensors(1), 1, bucket_bytes=600)
    honest, checks = module.check, iter([5, None])
    # the sender's first check is wrong, as if the bucket changed on its way
    monkeypatch.setattr(
        module,
        "check",
        lambda flat: honest(flat) + (1 if threading.current_thread() is not thread and next(checks, None) else 0),
    )
    channel.send(tensors(2), 2, bucket_bytes=600)
    thread.join(30)
    (version, received), refused = found
    assert version == 1 and equal(received, tensors(1)) and refused == "refused"


@pytest.fixture(scope="module")
def standing(ray_cluster: None) -> Iterator[Supervisor]:
    specs = [
        GroupSpec("trainer", Pool(cpus=0.5), {"policy": Trainer}),
        GroupSpec("engines", Pool(workers=2, cpus=0.5), {"rollout": Rollout}),
    ]
    with Supervisor(specs, note=lambda event, **fields: None, deadline_s=60) as supervisor:
        yield supervisor


@pytest.mark.ray
def test_weights_reach_engines_in_other_processes_bit_for_bit(standing: Supervisor) -> None:
    policy, rollout = standing.role("policy"), standing.role("rollout")
    for version in (1, 2):
        assert rollout.call("load", policy.first("publish", version)) == [version, version]
        assert rollout.call("differing", version) == [[], []]
    with pytest.raises(StaleWeights, match=r"engine [01] has version 2 and was asked to use version 1"):
        rollout.call("differing", 1)


@pytest.mark.ray
def test_old_versions_leave_the_object_store(standing: Supervisor) -> None:
    from ray._private.internal_api import memory_summary

    address = ray.get_runtime_context().gcs_address
    for version in range(3):
        published = standing.role("policy").first("publish_zeros", version, 8)
        refs = [shard.ref.hex() for shard in published.shards]
        held = memory_summary(address)
        assert all(ref in held for ref in refs), "it is held while the driver holds it"
        del published, held
    held = memory_summary(address)
    assert not [ref for ref in refs if ref in held]


@pytest.mark.ray
def test_weights_broadcast_past_the_store_are_the_same(standing: Supervisor) -> None:
    policy, rollout = standing.role("policy"), standing.role("rollout")
    open_channel(policy, rollout, device="cpu", timeout_s=30)
    for version in (5, 6):
        sending = policy.start("send", version)
        assert rollout.call("take") == [version, version]
        sending.result()
        assert rollout.call("differing", version) == [[], []]
