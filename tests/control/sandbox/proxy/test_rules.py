"""The proxy's rules: names, addresses, TLS's first message and the token bucket, without a socket."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.control.sandbox.proxy.addresses import is_public, objection
from raysafe.control.sandbox.proxy.client_hello import NotTls, read_client_hello, server_name
from raysafe.control.sandbox.proxy.rules import NetworkRules, plain_host
from raysafe.control.sandbox.proxy.token_bucket import TokenBucket
from raysafe.errors import ConfigError
from tests.control.sandbox.proxy.world import hello


@pytest.mark.parametrize(
    "name", ["example.org", "Example.ORG.", "xn--bcher-kva.example", "a_b.example.org", "localhost"]
)
def test_a_host_s_name_is_plain(name: str) -> None:
    assert plain_host(name) == name.lower().removesuffix(".")


@pytest.mark.parametrize(
    "name",
    ["", ".", "a..b", "-a.org", "a-.org", "bücher.example", "a b.org", "127.0.0.1", "1.2.3", "017700000001", "0x7f.0x1",
     "127.0.0.1.", "example.org..", "::1", "[::1]", "a@b", "a:1", "a/b", "a%2eb", "a\nb", "x" * 64, "a." * 127 + "com"],
)  # fmt: skip
def test_what_is_no_name_is_not_plain(name: str) -> None:
    assert plain_host(name) is None


@pytest.mark.parametrize(
    "domain", ["*", "*.", "**.org", "a.*.org", "10.0.0.1", "https://example.org", "example.org:443"]
)
def test_an_allow_list_takes_names_alone(domain: str) -> None:
    with pytest.raises(ConfigError, match=r"domains.*host's name"):
        NetworkRules(domains=(domain,))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_a_public_address_is_global_to_the_standard_library_too(address: ipaddress.IPv4Address) -> None:
    if is_public(address):
        assert address.is_global and not address.is_multicast and not address.is_reserved


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:2800:220:1::1", "2a00:1450:4001::200e"]
)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert objection([address], ()) is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.1.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
     "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
     "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::",
     "2001:0:a00:1::", "::127.0.0.1"],
)  # fmt: skip
def test_other_addresses_may_not(address: str) -> None:
    assert objection([address], ()) is not None


def test_an_operator_may_name_a_network_that_is_not_public() -> None:
    assert objection(["10.1.2.3", "::ffff:10.1.2.4"], ("10.1.0.0/16",)) is None
    assert objection(["10.2.2.3"], ("10.1.0.0/16",)) is not None


def read(data: bytes) -> tuple[bytes, str]:
    async def work() -> tuple[bytes, str]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_client_hello(reader.readexactly)

    return asyncio.run(work())


def test_the_server_of_a_real_client_s_first_message_is_read() -> None:
    data = hello("data.example.org")
    assert read(data) == (data, "data.example.org")


@given(cut=st.integers(1, 400))
def test_the_message_may_be_spread_over_records(cut: int) -> None:
    message = hello("data.example.org")[5:]
    cut = min(cut, len(message) - 1)
    parts = message[:cut], message[cut:]
    data = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)
    assert read(data) == (data, "data.example.org")


@given(at=st.integers(5, 300), value=st.integers(0, 255))
def test_a_changed_message_is_another_name_or_refused(at: int, value: int) -> None:
    data = bytearray(hello("data.example.org"))
    data[min(at, len(data) - 1)] = value
    with suppress(NotTls, asyncio.IncompleteReadError):
        read(bytes(data))


def test_a_message_in_many_pieces_is_refused() -> None:
    message = hello("data.example.org")[5:]
    data = b"".join(b"\x16\x03\x01\x00\x01" + bytes([byte]) for byte in message)
    with pytest.raises(NotTls, match="too many pieces"):
        read(data)


def extended(*extensions: tuple[int, bytes]) -> bytes:
    body = b"".join(kind.to_bytes(2) + len(content).to_bytes(2) + content for kind, content in extensions)
    return b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + len(body).to_bytes(2) + body


def named(*names: bytes) -> tuple[int, bytes]:
    listed = b"".join(b"\0" + len(name).to_bytes(2) + name for name in names)
    return 0, len(listed).to_bytes(2) + listed


def test_one_name_is_read_and_two_or_an_encrypted_one_are_refused() -> None:
    assert server_name(extended(named(b"a.org"))) == "a.org"
    for extensions in (
        [],
        [named(b"a.org", b"b.org")],
        [named(b"a.org"), named(b"b.org")],
        [named(b"a.org"), (0xFE0D, b"")],
    ):
        with pytest.raises(NotTls):
            server_name(extended(*extensions))


def test_tls_that_is_older_than_three_is_refused() -> None:
    assert ssl.HAS_TLSv1_3
    with pytest.raises(NotTls):
        read(b"\x80\x2e\x01\x00\x02" + bytes(64))


@given(
    st.lists(st.tuples(st.integers(1, 20_000), st.floats(0, 2)), min_size=1, max_size=40),
    st.integers(100, 10_000),
    st.integers(1, 10_000),
)
def test_over_any_time_no_more_than_the_burst_and_the_rate_pass(
    asked: list[tuple[int, float]], rate: int, burst: int
) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, lambda: now)
    passed: list[tuple[float, int]] = []
    for size, pause in asked:
        now += pause
        passed.append((now + bucket.take(size), size))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            sizes = sum(size for _, size in passed[first : last + 1])
            # what passes at once is counted when its last byte passes
            held = sizes - passed[first][1]
            assert held <= burst + rate * (passed[last][0] - passed[first][0]) + 1e-3


def test_a_bucket_that_was_left_alone_lets_a_burst_pass_at_once() -> None:
    now = 0.0
    bucket = TokenBucket(100, 1000, lambda: now)
    assert bucket.take(1000) == 0
    assert bucket.take(100) == 1
    now = 100.0
    assert bucket.take(1000) == 0
