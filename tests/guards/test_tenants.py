"""Tenants' changes: a guard may be tightened, and loosened or removed only where it says so."""

from typing import Any

import pytest

from raysafe.errors import ConfigError
from raysafe.guards import kinds
from raysafe.guards.in_force import InForce
from raysafe.guards.limits import LengthConfig, RateGuard
from raysafe.guards.policy import Policy
from tests.guards.planted import TellingConfig


@pytest.fixture(autouse=True)
def _telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "telling", "tests.guards.planted:TellingConfig")


LOOSE = {"kind": "telling", "name": "loose", "note": "all", "overridable": True}
LOCKED = {"kind": "telling", "name": "locked", "limit": 10, "sample": 0.5, "mode": "shadow", "on_error": "open"}


def policy(acme: dict[str, Any]) -> Policy:
    return Policy.parse({"name": "p", "guards": [LOOSE, LOCKED], "tenants": {"acme": acme}}, "p.yaml")


def guard(found: Policy, name: str) -> TellingConfig:
    [config] = [config for config in found.guards if config.name == name]
    assert isinstance(config, TellingConfig)
    return config


def test_another_tenant_has_the_policy_itself() -> None:
    found = policy({"remove": ["loose"]})
    assert found.for_tenant("other") is found


def test_an_overridable_guard_may_be_removed_or_changed() -> None:
    assert [g.name for g in policy({"remove": ["loose"]}).for_tenant("acme").guards] == ["locked"]
    changed = policy({"guards": {"loose": {"note": "less", "mode": "shadow"}}}).for_tenant("acme")
    assert (guard(changed, "loose").note, guard(changed, "loose").mode) == ("less", "shadow")


def test_what_a_tenant_adds_runs_after_the_policys_guards() -> None:
    found = policy({"add": [{"kind": "length", "messages": 3}]}).for_tenant("acme")
    assert [g.name for g in found.guards] == ["loose", "locked", "length"]
    assert isinstance(found.guards[-1], LengthConfig)


def test_fields_that_are_not_changed_stay() -> None:
    found = guard(policy({"guards": {"locked": {"limit": 5}}}).for_tenant("acme"), "locked")
    assert (found.limit, found.sample, found.mode, found.on_error) == (5, 0.5, "shadow", "open")


@pytest.mark.parametrize(
    ("field", "value"), [("limit", 9), ("sample", 0.6), ("mode", "enforce"), ("on_error", "closed")]
)
def test_a_locked_guard_may_be_tightened(field: str, value: Any) -> None:
    found = policy({"guards": {"locked": {field: value}}}).for_tenant("acme")
    assert getattr(guard(found, "locked"), field) == value


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"remove": ["locked"]}, "the guard 'locked' can't be removed (p.yaml, tenants.acme), unless it says"),
        ({"remove": ["lose"]}, "the policy has no guard 'lose' (p.yaml, tenants.acme); did you mean 'loose'?"),
        ({"guards": {"lock": {}}}, "the policy has no guard 'lock' (p.yaml, tenants.acme)"),
        ({"guards": {"locked": {"limit": 11}}}, "limit of the guard 'locked' can't become 11"),
        ({"guards": {"locked": {"limit": None}}}, "limit of the guard 'locked' can't become None"),
        ({"guards": {"locked": {"sample": 0.4}}}, "sample of the guard 'locked' can't become 0.4"),
        ({"guards": {"locked": {"note": "x"}}}, "note of the guard 'locked' can't become 'x'"),
        ({"guards": {"locked": {"timeout_s": 1}}}, "timeout_s of the guard 'locked' can't become 1.0"),
        ({"guards": {"locked": {"overridable": True}}}, "overridable of a guard is the policy's to say"),
        ({"guards": {"loose": {"name": "x"}}}, "name of a guard is the policy's to say"),
        ({"guards": {"loose": {"kind": "rate"}}}, "kind of a guard is the policy's to say"),
        ({"guards": {"loose": {"notes": "x"}}}, "unknown field 'notes' in p.yaml, tenants.acme.guards.loose; did you"),
        ({"guards": {"loose": {"sample": 2}}}, "sample: Input should be less than or equal to 1"),
        ({"guards": {"loose": {}}, "remove": ["loose"]}, "the guard 'loose' is both changed and removed"),
        ({"add": [LOOSE]}, "a guard 'loose' is there already (p.yaml, tenants.acme)"),
        ({"add": [{"kind": "telling"}, {"kind": "telling"}]}, "two guards are called 'telling'"),
        ({"add": [{"kind": "lenght"}]}, "unknown kind 'lenght' (p.yaml, tenants.acme, add[0]); did you mean 'length'?"),
        ({"adds": []}, "unknown field 'adds' in p.yaml, tenants.acme; did you mean 'add'?"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_with_its_place(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(values)
    assert sentence in str(caught.value)


def changed(guard: dict[str, Any], **fields: Any) -> None:
    Policy.parse({"guards": [{"name": "g", **guard}], "tenants": {"acme": {"guards": {"g": fields}}}})


@pytest.mark.parametrize(
    ("guard", "fields"),
    [
        ({"kind": "injection", "action": "hold"}, {"action": "block", "threshold": 0.9}),
        ({"kind": "linear", "model": "jailbreak", "threshold": 0.9}, {"threshold": 0.8}),
        ({"kind": "pii"}, {"action": "block", "output_action": "block"}),
    ],
)
def test_every_kinds_action_and_threshold_may_be_tightened(guard: dict[str, Any], fields: dict[str, Any]) -> None:
    changed(guard, **fields)


MONITOR = {"kind": "injection", "stages": ["output"]}


@pytest.mark.parametrize(
    ("guard", "fields"),
    [
        ({"kind": "injection"}, {"threshold": 0.99}),
        ({"kind": "injection"}, {"action": "hold"}),
        ({"kind": "linear", "model": "jailbreak"}, {"threshold": 0.8}),
        (
            {"kind": "trusted_monitoring", "monitor": MONITOR, "audit_budget": 0.1},
            {"threshold": 0.5, "audit_budget": None},
        ),
    ],
)
def test_what_may_loosen_a_guard_is_refused(guard: dict[str, Any], fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="doesn't tighten it"):
        changed(guard, **fields)


def test_a_locked_guard_cannot_be_put_in_shadow() -> None:
    with pytest.raises(ConfigError, match="mode of the guard 'length' can't become 'shadow'"):
        Policy.parse(
            {
                "guards": [{"kind": "length", "messages": 3}],
                "tenants": {"acme": {"guards": {"length": {"mode": "shadow"}}}},
            }
        )


def test_changes_are_checked_wherever_a_policy_is_made() -> None:
    with pytest.raises(ConfigError, match="can't be removed"):
        Policy(guards=(TellingConfig(),), tenants={"acme": {"remove": ["telling"]}})  # type: ignore[arg-type]


def test_a_tenants_policy_has_a_name_and_a_digest_of_its_own() -> None:
    found = policy({"remove": ["loose"]})
    acme = found.for_tenant("acme")
    assert (acme.name, acme.tenants) == ("p/acme", {})
    assert acme.digest != found.digest


def test_each_tenant_has_its_pipeline_and_equal_guards_are_one() -> None:
    rate = {"kind": "rate", "requests_per_minute": 1}
    found = InForce(Policy.parse({"guards": [LOOSE, rate], "tenants": {"acme": {"remove": ["loose"]}}}))
    base, acme = found.pipeline("other").entries, found.pipeline("acme").entries
    assert [len(base), len(acme)] == [2, 1]
    assert isinstance(acme[0].guard, RateGuard) and acme[0].guard is base[1].guard
    assert found.pipeline("acme") is found.pipeline("acme")
