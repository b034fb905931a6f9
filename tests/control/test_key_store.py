"""Keys in the store, SQLite's and PostgreSQL's: what opens, what ends, and what is written down first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from raysafe.control.key_store import KeyStore, end_expired, read_keys
from raysafe.control.keys import KeyRing
from raysafe.control.revision import read_revision
from raysafe.errors import ConfigError, StorageError
from raysafe.records.audit import read_rows
from raysafe.records.control_tables import KeyRow
from raysafe.records.store import Store, open_store


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def keys(store: Store) -> KeyStore:
    return KeyStore(store, by="ada")


def opened_by(keys: KeyStore, secret: str) -> str | None:
    found = KeyRing(keys.live()).identify(secret)
    return found.id if found else None


def states(keys: KeyStore) -> list[str]:
    return [kept.state for kept in keys.all()]


def test_a_key_comes_back_as_it_was_made(keys: KeyStore) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    key, secret = keys.make("app", "acme", ("user", "operator"), ends)
    (found,) = keys.live()
    assert found.model_copy(update={"created": key.created}) == key
    assert opened_by(keys, secret) == "app"


def test_a_name_that_was_ever_used_is_refused(keys: KeyStore) -> None:
    keys.make("app")
    keys.revoke("app", reason="leaked")
    with pytest.raises(ConfigError, match=r"there is or was a key called 'app'"):
        keys.make("app")


def test_an_end_in_the_past_is_refused(keys: KeyStore) -> None:
    with pytest.raises(ConfigError, match="would have expired"):
        keys.make("app", expires=datetime.now(UTC) - timedelta(minutes=1))


def test_keys_that_are_made_at_once_under_one_name_are_one(store: Store) -> None:
    def make(number: int) -> bool:
        try:
            KeyStore(store, by="ada").make("app")
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(8))) == 1


def test_a_rotated_key_opens_with_both_secrets_while_the_grace_lasts(keys: KeyStore) -> None:
    _, old = keys.make("app", "acme")
    key, new = keys.rotate("app", grace=timedelta(hours=1))
    assert (key.id, key.tenant) == ("app", "acme")
    assert [opened_by(keys, secret) for secret in (old, new)] == ["app", "app"]
    assert states(keys) == ["being replaced", "live"]


def test_a_rotation_without_grace_ends_the_old_secret_at_once(keys: KeyStore) -> None:
    _, old = keys.make("app")
    _, new = keys.rotate("app")
    assert [opened_by(keys, secret) for secret in (old, new)] == [None, "app"]
    assert states(keys) == ["replaced", "live"]


def test_a_grace_makes_no_key_last_longer_than_it_would_have(keys: KeyStore) -> None:
    ends = datetime.now(UTC) + timedelta(minutes=1)
    keys.make("app", expires=ends)
    keys.rotate("app", grace=timedelta(hours=1))
    assert [kept.key.expires for kept in keys.all()] == [ends, ends]


def expire(store: Store) -> None:
    with store.session() as session:
        session.execute(update(KeyRow).values(expires=datetime.now(UTC) - timedelta(seconds=1)))


@pytest.mark.parametrize("marked", [False, True])
def test_an_expired_key_is_renewed_by_a_rotation_that_says_until_when(
    store: Store, keys: KeyStore, marked: bool
) -> None:
    _, old = keys.make("app", "acme")
    expire(store)
    if marked:
        with store.session() as session:
            end_expired(session, datetime.now(UTC))
    with pytest.raises(ConfigError, match="no live key"):
        keys.rotate("app")
    key, new = keys.rotate("app", expires=datetime.now(UTC) + timedelta(days=1))
    assert key.tenant == "acme"
    assert [opened_by(keys, secret) for secret in (old, new)] == [None, "app"]


def test_a_revoked_key_is_not_renewed(keys: KeyStore) -> None:
    keys.make("app")
    keys.revoke("app", reason="leaked")
    with pytest.raises(ConfigError, match="no live key"):
        keys.rotate("app", expires=datetime.now(UTC) + timedelta(days=1))


def test_revoking_ends_every_secret_of_a_key(keys: KeyStore) -> None:
    _, old = keys.make("app")
    _, other = keys.make("other")
    _, new = keys.rotate("app", grace=timedelta(hours=1))
    keys.revoke("app", reason="leaked")
    assert [opened_by(keys, secret) for secret in (old, new, other)] == [None, None, "other"]
    assert states(keys) == ["revoked", "live", "revoked"]


@pytest.mark.parametrize("change", ["rotate", "revoke"])
def test_a_key_that_is_not_live_is_named_beside_those_that_are(keys: KeyStore, change: str) -> None:
    keys.make("other")
    with pytest.raises(ConfigError, match=r"no live key is called 'app'; live: other"):
        keys.rotate("app") if change == "rotate" else keys.revoke("app", reason="r")


def test_an_expired_key_stays_ended_when_the_clock_is_set_back(store: Store, keys: KeyStore) -> None:
    _, secret = keys.make("app", expires=datetime.now(UTC) + timedelta(hours=1))
    with store.session() as session:
        assert not end_expired(session, datetime.now(UTC))
        assert end_expired(session, datetime.now(UTC) + timedelta(hours=2))
    assert opened_by(keys, secret) is None
    with store.session() as session:
        assert not end_expired(session, datetime.now(UTC) + timedelta(hours=2))


def test_a_key_past_its_end_opens_nothing_before_anyone_marks_it(store: Store, keys: KeyStore) -> None:
    keys.make("app")
    with store.session() as session:
        session.execute(update(KeyRow).values(expires=datetime.now(UTC) - timedelta(seconds=1)))
        assert read_keys(session) == []


def test_the_first_key_is_made_where_none_opens_and_under_a_new_name(keys: KeyStore) -> None:
    first = keys.make_first()
    assert first is not None and first[0].id == "default"
    assert keys.make_first() is None
    keys.revoke("default", reason="lost")
    second = keys.make_first()
    assert second is not None and second[0].id == "default-2"


def test_a_forgotten_key_frees_its_name(keys: KeyStore) -> None:
    _, secret = keys.make("app")
    keys.forget("app")
    assert opened_by(keys, secret) is None
    keys.make("app")


def test_every_change_counts_the_revision_up(store: Store, keys: KeyStore) -> None:
    keys.make("app")
    keys.rotate("app")
    keys.revoke("app", reason="r")
    with store.reading() as session:
        assert (read_revision(session), keys.number) == (3, 3)


def test_every_change_is_in_the_audit_log_without_a_secret(keys: KeyStore, tmp_path: Path) -> None:
    _, one = keys.make("app", "acme")
    _, two = keys.rotate("app")
    keys.revoke("app", reason="leaked")
    rows = [row for _, row in read_rows(tmp_path / "audit" / "keys.jsonl") if row is not None]
    assert [(row["kind"], row["actor"], row["subject"]) for row in rows] == [
        ("key made", "ada", "app"),
        ("key rotated", "ada", "app"),
        ("key revoked", "ada", "app"),
    ]
    written = (tmp_path / "audit" / "keys.jsonl").read_text()
    assert one not in written and two not in written


def test_a_change_that_the_audit_log_cannot_take_is_not_made(keys: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        keys.make("app")
    assert keys.all() == []


def test_no_secret_is_in_the_store(store: Store, keys: KeyStore) -> None:
    _, secret = keys.make("app")
    with store.reading() as session:
        rows = session.execute(text("SELECT * FROM api_keys")).all()
    assert secret not in repr(rows) and secret.removeprefix("rs-") not in repr(rows)
