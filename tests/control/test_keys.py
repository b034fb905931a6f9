"""API keys: a secret opens as its own key and no other, until it expires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from raysafe.control.keys import Key, KeyRing, new_key
from raysafe.errors import ConfigError


def test_a_secret_finds_its_own_key_and_no_other() -> None:
    (first, one), (second, two) = new_key("first"), new_key("second", "acme", ("user", "operator"))
    ring = KeyRing([first, second])
    assert [ring.identify(secret) for secret in (one, two, one + "x", "", "rs-é\udc80")] == [
        first,
        second,
        None,
        None,
        None,
    ]


def test_an_expired_key_opens_nothing() -> None:
    now = datetime.now(UTC)
    key, secret = new_key("k", expires=now + timedelta(hours=1))
    assert KeyRing([key]).identify(secret) == key
    assert KeyRing([key.model_copy(update={"expires": now - timedelta(seconds=1)})]).identify(secret) is None


def test_replaced_keys_open_nothing_and_their_successors_do() -> None:
    (first, one), (second, two) = new_key("first"), new_key("second")
    ring = KeyRing([first])
    ring.replace([second])
    assert (ring.identify(one), ring.identify(two), len(ring)) == (None, second, 1)


def test_the_secret_is_not_in_what_is_kept() -> None:
    key, secret = new_key("k")
    assert secret not in key.model_dump_json()


@pytest.mark.parametrize(
    "fields",
    [{"id": "a b"}, {"id": ""}, {"tenant": "x/y"}, {"scopes": ()}, {"scopes": ("admin",)}, {"expires": "2027-01-01"}],
)
def test_a_key_that_could_not_be_told_from_others_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Key.parse({"id": "k", "sha256": "0" * 64} | fields)
