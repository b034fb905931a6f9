"""What is in effect is the greatest lower bound of what is asked, granted and allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.control.capabilities import INFLUENCES, UNLIMITED, Capabilities, covers_domain, covers_path, minimum
from raysafe.errors import ConfigError

NAMES = st.lists(st.sampled_from(["a", "b", "c", "*"]), max_size=3).map(tuple)
DOMAINS = st.lists(st.sampled_from(["x.org", "*.x.org", "a.x.org", "*.a.x.org", "y.net", "*"]), max_size=3).map(tuple)
PATHS = st.lists(st.sampled_from(["/srv", "/srv/data", "/srv/data/x", "/etc", "*"]), max_size=3).map(tuple)
LIMITS = st.none() | st.integers(1, 9)
CAPABILITIES = st.builds(
    Capabilities,
    tokens_per_minute=LIMITS,
    requests_per_minute=LIMITS,
    data_classes=NAMES,
    tools=NAMES,
    domains=DOMAINS,
    paths=PATHS,
    autonomy=st.integers(0, 3),
    scope=st.sampled_from(INFLUENCES),
    recipients=st.integers(0, 5),
)


def allows(granted: Capabilities) -> set[Any]:
    """Everything that a grant allows, of a small world: the oracle of the order."""
    world: set[Any] = {("tool", n) for n in "abc" if {n, "*"} & set(granted.tools)}
    world |= {("data", n) for n in "abc" if {n, "*"} & set(granted.data_classes)}
    hosts = ["x.org", "a.x.org", "b.x.org", "c.a.x.org", "y.net", "z.y.net"]
    world |= {("domain", h) for h in hosts if any(covers_domain(g, h) for g in granted.domains)}
    files = ["/srv", "/srv/a", "/srv/data", "/srv/data/x", "/srv/data/x/y", "/srvx", "/etc/passwd"]
    world |= {("path", f) for f in files if any(covers_path(g, f) for g in granted.paths)}
    world |= {("autonomy", n) for n in range(granted.autonomy + 1)}
    world |= {("scope", n) for n in INFLUENCES[: INFLUENCES.index(granted.scope) + 1]}
    world |= {("recipients", n) for n in range(min(granted.recipients, 9) + 1)}
    world |= {
        ("tokens", n) for n in range(1, 11) if granted.tokens_per_minute is None or n <= granted.tokens_per_minute
    }
    return world


@given(CAPABILITIES, CAPABILITIES, CAPABILITIES)
def test_the_minimum_allows_what_all_allow_and_nothing_else(
    one: Capabilities, two: Capabilities, three: Capabilities
) -> None:
    assert allows(minimum(one, two, three)) == allows(one) & allows(two) & allows(three)


@given(CAPABILITIES)
def test_no_limit_limits_nothing(one: Capabilities) -> None:
    assert allows(minimum(one, UNLIMITED)) == allows(minimum(one)) == allows(one)


def test_nothing_is_granted_by_default() -> None:
    kinds = {kind for kind, _ in allows(Capabilities())}
    assert kinds == {"autonomy", "scope", "recipients", "tokens"}
    assert ("autonomy", 1) not in allows(Capabilities())


@pytest.mark.parametrize("path", ["data", "/srv/../etc", "/srv/", "~/x"])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="absolute and plain"):
        Capabilities(paths=(path,))
