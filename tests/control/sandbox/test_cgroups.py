"""Finding where control groups can be made, and what is written into them: on folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.control.sandbox.cgroups import Group, Places, find_places
from raysafe.control.sandbox.policy import Policy

POLICY = Policy(memory_bytes=100 << 20, disk_bytes=10 << 20, cpus=1.5, pids=7)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Version 2: a user's slice that hands controllers on, and the group this process is in, which doesn't."""
    place = tmp_path / "cgroup" / "user.slice" / "session.scope"
    place.mkdir(parents=True)
    for folder, given in ((place, ""), (place.parent, "cpu memory pids"), (place.parent.parent, "cpu memory pids")):
        (folder / "cgroup.subtree_control").write_text(given)
        (folder / "cgroup.procs").write_text("")
    (tmp_path / "mounts").write_text(f"cgroup2 {tmp_path}/cgroup cgroup2 rw,nosuid 0 0\n")
    (tmp_path / "cgroup_").write_text("")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "mounts").write_text((tmp_path / "mounts").read_text())
    (tmp_path / "proc" / "cgroup").write_text("0::/user.slice/session.scope\n")
    return tmp_path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """Version 1: a hierarchy a controller; processors' two share one."""
    (tmp_path / "proc").mkdir()
    lines, own = [], []
    for number, names in enumerate(("memory", "pids", "cpu,cpuacct")):
        place = tmp_path / "cgroup" / names / "own"
        place.mkdir(parents=True)
        lines.append(f"cgroup {tmp_path}/cgroup/{names} cgroup rw,nosuid,{names} 0 0\n")
        own.append(f"{number}:{names}:/own\n")
    (tmp_path / "proc" / "mounts").write_text("".join(lines))
    (tmp_path / "proc" / "cgroup").write_text("".join(own))
    return tmp_path


def test_version_2_is_used_below_the_nearest_group_that_hands_controllers_on(second: Path) -> None:
    assert find_places(second / "proc") == Places(
        2, dict.fromkeys(("memory", "pids", "cpu"), second / "cgroup/user.slice")
    )


def test_version_2_without_controllers_is_none(second: Path) -> None:
    for file in second.rglob("cgroup.subtree_control"):
        file.write_text("cpu pids")
    assert find_places(second / "proc") is None


def test_version_1_is_used_below_this_process_own_groups(first: Path) -> None:
    places = find_places(first / "proc")
    assert places is not None
    assert places.version == 1
    assert places.of["memory"] == first / "cgroup/memory/own"
    assert places.of["cpu"] == places.of["cpuacct"] == first / "cgroup/cpu,cpuacct/own"


def test_version_1_that_lacks_a_controller_is_none(first: Path) -> None:
    mounts = first / "proc" / "mounts"
    mounts.write_text("".join(line for line in mounts.read_text().splitlines(True) if "pids" not in line))
    assert find_places(first / "proc") is None


def test_no_control_groups_are_none(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("tmpfs /tmp tmpfs rw 0 0\n")
    (tmp_path / "cgroup").write_text("")
    assert find_places(tmp_path) is None


def made(places: Places) -> tuple[Group, Path]:
    group = Group(places, POLICY)
    (folder,) = places.of["memory"].glob("raysafe-*")
    return group, folder


def test_version_2_bounds_are_written(second: Path) -> None:
    places = find_places(second / "proc")
    assert places is not None
    _, folder = made(places)
    told = {file.name: file.read_text() for file in folder.iterdir()}
    assert told == {
        "memory.max": str(100 << 20),
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "pids.max": "8",
    }


def test_version_1_bounds_are_written(first: Path) -> None:
    places = find_places(first / "proc")
    assert places is not None
    _, folder = made(places)
    assert (folder / "memory.limit_in_bytes").read_text() == str(100 << 20)
    (cpu,) = places.of["cpu"].glob("raysafe-*")
    assert (cpu / "cpu.cfs_quota_us").read_text() == "150000"


def test_version_2_counters_are_read(second: Path) -> None:
    places = find_places(second / "proc")
    assert places is not None
    group, folder = made(places)
    (folder / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (folder / "memory.peak").write_text("4096\n")
    (folder / "memory.events").write_text("max 3\noom 1\noom_kill 0\n")
    (folder / "pids.events").write_text("max 0\n")
    assert (group.cpu_seconds(), group.memory_peak(), group.limit_hit()) == (2.5, 4096, None)
    (folder / "pids.events").write_text("max 2\n")
    assert group.limit_hit() == "pids"
    (folder / "memory.events").write_text("max 3\noom 1\noom_kill 1\n")
    assert group.limit_hit() == "memory"


def test_groups_of_processes_that_are_gone_are_given_up(second: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = find_places(second / "proc")
    assert places is not None
    left = places.of["memory"] / "raysafe-4194999-0"
    left.mkdir()
    monkeypatch.setattr("raysafe.control.sandbox.cgroups._swept", set())
    Group(places, POLICY)
    assert not left.exists()
