"""Hub datasets through the real client, against a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raysafe.data import hub
from raysafe.data.readers import read
from raysafe.errors import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def rows(name: str) -> bytes:
    return json.dumps({"prompt": name, "chosen": "yes", "rejected": "no"}).encode()


FILES = {name: rows(name) for name in ("one/train.jsonl", "one/test.jsonl", "two/test-00000.jsonl", "latest.jsonl")} | {
    "dataset_infos.json": b"{\n}",
    "README.md": b"text",
}


class Hub(ThreadingHTTPServer):
    """Serves FILES as owner/name; `asked` holds the files that were fetched, `silent` keeps it from answering."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.silent = threading.Event()
        self.closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.server.silent.is_set():
            self.server.closing.wait(30)
            return
        path = self.path.partition("?")[0]
        if path == "/api/datasets/owner/name" or path.startswith("/api/datasets/owner/name/revision/"):
            self.send(json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": n} for n in FILES]}))
        elif path.startswith("/api/datasets/owner/name/tree/"):
            sizes = [(n, len(c), hashlib.sha1(c).hexdigest()) for n, c in FILES.items()]
            self.send(json.dumps([{"type": "file", "path": n, "size": s, "oid": o} for n, s, o in sizes]))
        elif (name := path.rpartition(f"/resolve/{COMMIT}/")[2]) in FILES:
            if self.command == "GET":
                self.server.asked.append(name)
            self.send(FILES[name], {"ETag": f'"{hashlib.sha1(FILES[name]).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self.send("{}", {"X-Error-Code": "RepoNotFound"}, status=404)

    def send(self, body: str | bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def prompts(uri: str) -> list[str]:
    return [prompt[0]["content"] for prompt in read(uri, "preferences").table["prompt"].to_pylist()]


def test_only_the_files_of_the_split_are_fetched(local_hub: Hub) -> None:
    assert prompts("owner/name:test") == ["one/test.jsonl", "two/test-00000.jsonl"]
    assert sorted(local_hub.asked) == ["one/test.jsonl", "two/test-00000.jsonl"]


def test_a_split_may_name_a_folder_too(local_hub: Hub) -> None:
    assert prompts("owner/name@main:one/test") == ["one/test.jsonl"]


def test_without_a_split_all_rows_are_read_and_no_metadata(local_hub: Hub) -> None:
    assert len(prompts("owner/name")) == 4


def test_a_split_that_is_not_there_is_answered_with_the_files_that_are(local_hub: Hub) -> None:
    with pytest.raises(DataError, match=r"no file of split 'dev'; its files: one/train\.jsonl, one/test\.jsonl"):
        read("owner/name:dev", "preferences")
    assert local_hub.asked == []


def test_an_unknown_dataset_is_one_sentence(local_hub: Hub) -> None:
    with pytest.raises(DataError, match=r"'owner/other' is no file here and can't be had from the Hugging Face hub"):
        read("owner/other", "preferences")


def test_a_hub_that_is_silent_is_given_up(local_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    local_hub.silent.set()
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"hub \(timed out\).*go online"):
        read("owner/name", "preferences")
    assert time.monotonic() - begun < 5


def test_what_was_fetched_whole_serves_offline_and_says_so(
    local_hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = prompts("owner/name:test")
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    local_hub.silent.set()
    with caplog.at_level(logging.WARNING):
        assert prompts("owner/name:test") == before
    assert "using the copy of owner/name kept here" in caplog.text


def test_a_part_that_was_fetched_is_not_taken_for_the_whole_offline(
    local_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts("owner/name:test")
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    local_hub.silent.set()
    for uri in ("owner/name", "owner/name:train"):
        with pytest.raises(DataError, match="can't be had from the Hugging Face hub"):
            read(uri, "preferences")
