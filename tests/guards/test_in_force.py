"""A policy's pipelines: guards of equal settings are one, and what must always stand can't be weakened."""

from typing import Any

import pytest

from raysafe.errors import ConfigError
from raysafe.guards import kinds
from raysafe.guards.in_force import InForce
from raysafe.guards.policy import Policy
from raysafe.guards.settings import Resources
from tests.guards.planted import TellingConfig

ALWAYS = Resources(always=(TellingConfig(name="granted"),))


@pytest.fixture(autouse=True)
def _telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "telling", "tests.guards.planted:TellingConfig")


def names(in_force: InForce, tenant: str = "default") -> list[str]:
    return [entry.guard.name for entry in in_force.pipeline(tenant).entries]


def parsed(**values: Any) -> Policy:
    return Policy.parse({"guards": [{"kind": "length", "messages": 3}], **values})


def test_a_guard_that_must_stand_comes_before_the_policys_own() -> None:
    assert names(InForce(parsed(), ALWAYS)) == ["granted", "length"]


def test_a_tenant_that_removes_it_has_it_all_the_same() -> None:
    guards = [{"kind": "telling", "name": "own", "overridable": True}]
    found = InForce(parsed(guards=guards, tenants={"acme": {"remove": ["own"]}}), ALWAYS)
    assert (names(found), names(found, "acme")) == (["own"], ["granted"])


@pytest.mark.parametrize("weaker", [{"mode": "shadow"}, {"sample": 0.5}, {"on_error": "open"}])
def test_a_policys_own_in_its_place_cannot_be_weaker(weaker: dict[str, Any]) -> None:
    policy = parsed(guards=[{"kind": "telling", "name": "own", **weaker}])
    assert names(InForce(policy)) == ["own"]
    with pytest.raises(ConfigError, match="the guard 'own' applies what the safety case grants"):
        InForce(policy, ALWAYS)


def test_guards_of_equal_settings_are_kept_from_the_policy_before() -> None:
    before = InForce(parsed())
    after = InForce(parsed(name="new"), before=before)
    other = InForce(parsed(guards=[{"kind": "length", "messages": 4}]), before=before)
    guards = [each.pipeline().entries[0].guard for each in (before, after, other)]
    assert guards[0] is guards[1] is not guards[2]
