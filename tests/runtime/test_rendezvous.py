"""The meeting point of a process group is reached by its ends and listens on the node's address alone."""

from __future__ import annotations

import psutil
import pytest

from raysafe.runtime.rendezvous import join_store, open_store


def test_a_store_listens_on_the_node_s_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    store, meeting = open_store(2, 10.0)
    sockets = psutil.Process().net_connections("tcp")
    listening = [s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr.port == meeting.port]
    assert listening == ["127.0.0.1"] and meeting.host == "127.0.0.1"
    join_store(meeting, 10.0).set("key", "value")
    assert store.get("key") == b"value"
