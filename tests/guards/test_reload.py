"""A changed policy file is taken up whole or refused, and the policy in force stays until then. With real files."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import ConfigError
from raysafe.guards import kinds
from raysafe.guards.guard import Exchange, Message
from raysafe.guards.policy import Policy, default_policy
from raysafe.guards.policy_text import seal
from raysafe.guards.reload import Accepted, FixedPolicy, PolicyFile, Refused, policy_source
from tests.examples import examples

OLD = """name: old
version: 1
guards:
  - {kind: rate, requests_per_minute: 1}
  - {kind: length, messages: 3}
...
"""
NEW = """name: new
version: 2
guards:
  - {kind: rate, requests_per_minute: 1}
  - {kind: length, messages: 4}
  - {kind: length, name: answers, output_characters: 100}
tenants:
  acme: {guards: {answers: {on_error: closed}}}
record_text: true
...
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(OLD)
    return path


def looks(watched: PolicyFile, times: int = 2) -> list[Accepted | Refused]:
    return [change for _ in range(times) if (change := watched.look()) is not None]


def watched(path: Path, on_change: Callable[[Any], None] = lambda change: None) -> PolicyFile:
    """A watched file whose thread never looks by itself."""
    file = PolicyFile(path, every_s=1000.0)
    file.start(on_change)
    return file


def names(file: PolicyFile) -> list[str]:
    return [entry.guard.name for entry in file.current().pipeline().entries]


def test_a_valid_change_is_in_force_after_two_looks(path: Path) -> None:
    file = PolicyFile(path)
    path.write_text(NEW)
    assert looks(file, 1) == []
    assert file.current().policy.name == "old"
    [change] = looks(file, 1)
    assert isinstance(change, Accepted)
    assert (change.old.name, change.new.name) == ("old", "new")
    assert file.current().policy == change.new
    assert names(file) == ["rate", "length", "answers"]


def test_a_file_that_is_still_being_written_is_not_taken_up(path: Path) -> None:
    file = PolicyFile(path)
    for end in range(len(NEW) - 40, len(NEW) + 1):
        path.write_text(NEW[:end])
        assert looks(file, 1) == []
    assert len(looks(file, 1)) == 1


def spoil(path: Path, how: str) -> None:
    if how == "deleted":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(BAD[how])


BAD = {
    "empty": b"",
    "not UTF-8": NEW.encode().replace(b"answers", b"\xff\xfe"),
    "nothing but noughts": bytes(len(NEW)),
    "not YAML": b"guards: [\n...\n",
    "an unknown field": NEW.replace("messages", "message").encode(),
    "cut off where it is still valid": NEW[: NEW.index("tenants")].encode(),
    "a weakened tenant": NEW.replace("on_error: closed", "mode: shadow").encode(),
    "a key given twice": NEW.replace("record_text: true", "name: newer").encode(),
    "a guard that cannot be built": b"guards: [{kind: length, name: x, stages: [output], beside: true}]\n...\n",
}
REASONS = {
    "empty": "doesn't end with the line '...'",
    "not UTF-8": "is not UTF-8 (byte",
    "nothing but noughts": "doesn't end with the line",
    "not YAML": "is not valid YAML",
    "an unknown field": "did you mean 'messages'?",
    "cut off where it is still valid": "which tells a whole policy from part of one: add it",
    "a weakened tenant": "mode of the guard 'answers' can't become 'shadow'",
    "a key given twice": "the key 'name' is given twice",
    "a guard that cannot be built": "unknown field 'stages'",
    "deleted": "can't read config file",
    "a folder": "it is no file",
}


@pytest.mark.parametrize("how", REASONS)
def test_a_bad_policy_is_refused_once_and_the_old_one_stays(path: Path, how: str) -> None:
    told: list[Any] = []
    file = watched(path, told.append)
    before = file.current()
    spoil(path, how)
    [refused] = looks(file, 6)
    assert isinstance(refused, Refused)
    assert REASONS[how] in refused.reason
    assert file.current() is before
    assert (told, file.refusal) == ([refused], refused)
    assert refused.record() == {"accepted": False, "in_force": before.label, "reason": refused.reason}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read_keeps_the_old_policy(path: Path) -> None:
    file = PolicyFile(path)
    path.chmod(0)
    [refused] = looks(file)
    assert isinstance(refused, Refused) and "Permission denied" in refused.reason


def test_a_file_that_the_system_does_not_hand_over_keeps_the_old_policy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PolicyFile(path)

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    [refused] = looks(file)
    assert isinstance(refused, Refused) and "Permission denied" in refused.reason


def test_a_guard_whose_construction_raises_keeps_the_old_policy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "telling", "tests.guards.planted:TellingConfig")
    file = PolicyFile(path)
    path.write_text("guards: [{kind: telling, fails: true}]\n...\n")
    [refused] = looks(file)
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("RuntimeError at ") and "no model" not in refused.reason
    assert file.current().policy.name == "old"


def test_a_mended_file_ends_the_refusal(path: Path) -> None:
    file = PolicyFile(path)
    path.write_text("guards: 3\n...\n")
    looks(file)
    path.write_text(NEW)
    looks(file)
    assert file.refusal is None and file.current().policy.name == "new"


def test_a_file_that_is_put_back_ends_the_refusal_without_a_change(path: Path) -> None:
    file = PolicyFile(path)
    path.write_text("")
    looks(file)
    path.write_text(OLD)
    assert looks(file, 3) == []
    assert file.refusal is None


def test_a_refused_file_is_tried_again_when_it_is_touched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PolicyFile(path)
    path.write_text("name: new\nguards: [{kind: telling}]\n...\n")
    assert isinstance(looks(file, 4)[0], Refused)
    monkeypatch.setitem(kinds.KINDS, "telling", "tests.guards.planted:TellingConfig")
    assert looks(file, 4) == []
    os.utime(path, ns=(1, 1))
    [change] = looks(file, 4)
    assert isinstance(change, Accepted)


def test_comments_alone_are_no_change(path: Path) -> None:
    told: list[Any] = []
    file = watched(path, told.append)
    before = file.current().label
    path.write_text("# a comment\n" + OLD)
    assert looks(file, 4) == told == []
    assert (file.current().label, file.refusal) == (before, None)


def test_what_is_under_way_ends_under_the_policy_that_it_began_with(path: Path) -> None:
    file = PolicyFile(path)
    exchange = Exchange("r", "k", "m", (), output="a" * 200)
    begun = file.current()
    gate = begun.pipeline().stream(exchange)
    gate.feed("a" * 200)
    path.write_text(NEW)
    looks(file)
    gate.finish()
    assert gate.decision is not None and gate.decision.action == "allow"
    assert begun.label.startswith("old@1 (")
    assert file.current().pipeline().check(exchange, "output").action == "block"


def ask(file: PolicyFile) -> str:
    return file.current().pipeline().check(Exchange("r", "k", "m", (Message("user", "hi"),)), "input").action


def test_the_counts_of_an_unchanged_rate_guard_outlive_a_change_of_others(path: Path) -> None:
    file = PolicyFile(path)
    assert [ask(file), ask(file)] == ["allow", "block"]
    path.write_text(NEW)
    looks(file)
    assert ask(file) == "block"


def test_a_rate_guard_with_other_settings_counts_anew(path: Path) -> None:
    file = PolicyFile(path)
    assert [ask(file), ask(file)] == ["allow", "block"]
    path.write_text(OLD.replace("minute: 1", "minute: 2"))
    looks(file)
    assert ask(file) == "allow"


def test_a_change_is_told_before_it_is_in_force(path: Path) -> None:
    seen: list[str] = []
    file = watched(path, lambda change: seen.append(file.current().policy.name))
    path.write_text(NEW)
    looks(file)
    assert (seen, file.current().policy.name) == (["old"], "new")


def test_a_change_that_cannot_be_recorded_waits_until_it_can(path: Path) -> None:
    broken, told = [True], list[Any]()

    def record(change: Accepted | Refused) -> None:
        if broken[0]:
            raise OSError("disk full")
        told.append(change)

    file = watched(path, record)
    path.write_text(NEW)
    [refused] = looks(file, 8)
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("the change can't be recorded: OSError at ")
    assert file.current().policy.name == "old"
    broken[0] = False
    [change] = looks(file, 4)
    assert told == [change]
    assert (file.current().policy.name, file.refusal) == ("new", None)


def test_the_thread_takes_up_changes_until_it_is_stopped(path: Path) -> None:
    changed = threading.Event()
    file = PolicyFile(path, every_s=0.01)
    file.start(lambda change: changed.set())
    path.write_text(NEW)
    assert changed.wait(20)
    file.stop()
    assert file.current().policy.name == "new"
    path.write_text(OLD)
    time.sleep(0.05)
    assert file.current().policy.name == "new"


def test_readers_see_one_policy_or_the_other_and_never_a_mix(path: Path) -> None:
    file = PolicyFile(path, every_s=0.001)
    file.start(lambda change: None)
    whole = {"old": ["rate", "length"], "new": ["rate", "length", "answers"]}
    seen, ending = set[str](), threading.Event()

    def write() -> None:
        for turn in range(8):
            path.write_text(NEW if turn % 2 == 0 else OLD)
            deadline = time.monotonic() + 20
            while file.current().policy.name != ("old", "new")[turn % 2 == 0] and time.monotonic() < deadline:
                time.sleep(0.001)
        ending.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ending.is_set():
        found = file.current()
        assert [entry.guard.name for entry in found.pipeline().entries] == whole[found.policy.name]
        seen.add(found.policy.name)
    writer.join()
    file.stop()
    assert seen == {"old", "new"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies")


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, len(NEW)))
def test_no_beginning_of_a_new_policy_is_taken_for_the_whole(folder: Path, length: int) -> None:
    path = folder / "part.yaml"
    path.write_text(OLD)
    file = PolicyFile(path)
    path.write_text(NEW[:length])
    looks(file)
    whole = NEW[:length].rstrip("\n") == NEW.rstrip("\n")
    assert file.current().policy.name == ("new" if whole else "old")


SEALED_OLD, SEALED_NEW = seal(OLD).encode(), seal(NEW).encode()
mixed = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([SEALED_OLD, SEALED_NEW]), st.integers(0, 600), st.integers(0, 600)).map(
            lambda part: part[0][part[1] : part[1] + part[2]]
        ),
        st.binary(max_size=4),
    ),
    max_size=4,
).map(b"".join)
spots = st.lists(st.tuples(st.integers(0, len(SEALED_NEW) - 1), st.integers(1, 255)), min_size=1, max_size=3)


def flipped(places: list[tuple[int, int]]) -> bytes:
    raw = bytearray(SEALED_NEW)
    for place, bits in places:
        raw[place] ^= bits
    return bytes(raw)


WRITTEN = [Policy.from_bytes(raw, "sealed") for raw in (SEALED_OLD, SEALED_NEW)]


@settings(max_examples=examples(60), deadline=None)
@given(st.one_of(mixed, spots.map(flipped), st.integers(0, len(SEALED_NEW)).map(lambda end: SEALED_NEW[:end])))
def test_no_damage_to_a_sealed_file_yields_a_policy_that_nobody_wrote(folder: Path, raw: bytes) -> None:
    path = folder / "sealed.yaml"
    path.write_bytes(SEALED_OLD)
    file = PolicyFile(path)
    path.write_bytes(raw)
    looks(file, 3)
    found = file.current().policy
    assert found in WRITTEN
    if found == WRITTEN[1]:
        assert raw.rstrip(b"\r\n") == SEALED_NEW.rstrip(b"\r\n")


def test_a_sealed_policy_is_not_followed_by_one_without_a_seal(path: Path) -> None:
    path.write_bytes(SEALED_OLD)
    file = PolicyFile(path)
    path.write_text(NEW)
    [refused] = looks(file)
    assert isinstance(refused, Refused) and "isn't sealed, but the policy in force is" in refused.reason


def test_the_first_policy_must_be_valid(path: Path) -> None:
    path.write_text("guards: 3")
    with pytest.raises(ConfigError, match="guards"):
        PolicyFile(path)


def test_the_first_policy_needs_no_mark(path: Path) -> None:
    path.write_text("guards: []")
    assert PolicyFile(path).current().policy.guards == ()


def test_without_a_file_the_packaged_policy_stays() -> None:
    source = policy_source(None)
    assert isinstance(source, FixedPolicy)
    assert source.current().policy == default_policy()
