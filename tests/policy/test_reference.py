"""The refresh of the catalogue from AWS's Service Reference, against a small server that plays it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bot.model import ActionUse, Evidence, PolicyKind, RolePolicy, ServiceUse, TrimSettings
from bot.policy import load_catalogue, trim
from bot.reference import refreshed

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Reference(ThreadingHTTPServer):
    """AWS's Service Reference with one service; `slow` seconds late, `broken` on demand."""

    daemon_threads = True
    paths: list[str]
    slow = 0.0
    broken = b""
    drip = 0.0  # seconds between two bytes
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Reference

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.paths.append(self.path)
        time.sleep(self.server.slow)
        body: object = [
            {"service": "sqs", "url": f"{self.server.url}v1/sqs/sqs.json"},
            {"service": "iam", "url": "http://127.0.0.1:1/elsewhere.json"},
        ]
        if self.path.endswith("sqs.json"):
            body = {
                "Name": "sqs",
                "Actions": [
                    {"Name": "SendFax", "SupportedBy": {"IAM Action Last Accessed": False}},
                    {"Name": "CreateQueue", "SupportedBy": {"IAM Action Last Accessed": True}},
                    {"Name": "DeleteQueue", "SupportedBy": {"IAM Action Last Accessed": False}},
                    {"Name": "../evil"},
                    "nonsense",
                ],
            }
        self.send_response(200)
        self.end_headers()
        text = self.server.broken or json.dumps(body).encode()
        with suppress(OSError):
            for at in range(0, len(text), 1 if self.server.drip else len(text)):
                self.wfile.write(text[at : at + 1] if self.server.drip else text)
                time.sleep(self.server.drip)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def reference() -> Iterator[Reference]:
    server = Reference(("127.0.0.1", 0), Handler)
    server.paths = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_new_names_are_added_and_what_is_known_stays(reference: Reference, tmp_path: Path) -> None:
    plain = load_catalogue()
    catalogue, silent = refreshed(plain, ["sqs"], tmp_path, index=reference.url)
    assert silent == ()
    assert set(catalogue.actions("sqs")) == {*plain.actions("sqs"), "sendfax"}
    assert catalogue.actions("sqs")["createqueue"].level is plain.actions("sqs")["createqueue"].level
    assert catalogue.actions("sqs")["deletequeue"].tracked is False
    assert catalogue.actions("s3") == plain.actions("s3")


def test_it_only_adds_reasons_to_keep(reference: Reference, tmp_path: Path) -> None:
    """An action that AWS says IAM does not track is not called unused, though the report names it without a time."""
    text = '{"Statement": {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}}'
    role = [RolePolicy(name="P", kind=PolicyKind.INLINE, text=text)]
    uses = tuple(ActionUse(action=a, last_accessed=NOW if a == "CreateQueue" else None) for a in (
        "CreateQueue", "DeleteQueue", "SetQueueAttributes"))  # fmt: skip
    report = Evidence(services=(ServiceUse(namespace="sqs", last_accessed=NOW, actions=uses),), made_at=NOW)
    catalogue, _ = refreshed(load_catalogue(), ["sqs"], tmp_path, index=reference.url)
    kept = []
    for each in (load_catalogue(), catalogue):
        answer = trim(role, report, each, TrimSettings(now=NOW))
        assert answer.proof.holds
        kept.append({a.action for a in answer.actions if a.kept})
    assert kept[1] - kept[0] == {"sqs:SendFax", "sqs:DeleteQueue"}
    assert kept[0] <= kept[1]


def test_a_fresh_copy_on_disk_is_used_and_an_old_one_is_not(reference: Reference, tmp_path: Path) -> None:
    refreshed(load_catalogue(), ["sqs"], tmp_path, index=reference.url)
    assert reference.asked == 2
    catalogue, _ = refreshed(load_catalogue(), ["sqs"], tmp_path, index=reference.url)
    assert reference.asked == 2
    assert "sendfax" in catalogue.actions("sqs")
    long_ago = time.time() - 25 * 3600
    for file in tmp_path.iterdir():
        os.utime(file, (long_ago, long_ago))
    refreshed(load_catalogue(), ["sqs"], tmp_path, index=reference.url)
    assert reference.asked == 4


def test_it_is_never_required(reference: Reference, tmp_path: Path) -> None:
    """Slow, broken, away, elsewhere: the catalogue stays what it was, and soon."""
    plain = load_catalogue()
    begun = time.monotonic()
    reference.slow = 30
    assert refreshed(plain, ["sqs"], tmp_path, index=reference.url, seconds=0.3) == (plain, ("sqs",))
    reference.slow = 0
    for broken in (b"{", b"null", b"5", b"[1, null]", b'{"Actions": 5}', b"[" * 100_000):
        reference.broken = broken
        cache = tmp_path / broken.hex()
        assert refreshed(plain, ["sqs"], cache, index=reference.url)[0] is plain
    index = json.dumps([{"service": "sqs", "url": f"{reference.url}sqs.json"}]).encode()
    for number, broken in enumerate(
        (b"[]", b'{"Actions": 5}', b'{"Actions": [5, {"Name": 5}, {}]}', b"\xff", b'{"Actions":' * 100_000)
    ):
        cache = tmp_path / f"n{number}"
        cache.mkdir()
        (cache / "index.json").write_bytes(index)
        reference.broken = broken
        assert refreshed(plain, ["sqs"], cache, index=reference.url)[0] is plain
    reference.broken = b""
    assert refreshed(plain, ["iam", "nowhere"], tmp_path / "x", index=reference.url) == (plain, ("iam", "nowhere"))
    assert refreshed(plain, ["sqs"], tmp_path / "y", index="http://127.0.0.1:1/", seconds=0.3)[0] is plain
    assert time.monotonic() - begun < 5


def test_a_cache_that_cannot_be_written_costs_nothing(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    catalogue, _ = refreshed(load_catalogue(), ["sqs"], tmp_path / "file" / "cache", index=reference.url)
    assert "sendfax" in catalogue.actions("sqs")


def test_only_the_services_at_hand_are_asked_for_and_only_by_a_plain_name(reference: Reference, tmp_path: Path) -> None:
    evil = ["../../sqs", "sqs/../../x", "/etc/x", "..", "", "sqs\0", "é", "s" * 300, "index"]
    listed = [{"service": s, "url": f"{reference.url}{s}.json"} for s in (*evil, "sqs", "s3")]
    cache = tmp_path / "deep" / "cache"
    cache.mkdir(parents=True)
    (cache / "index.json").write_text(json.dumps(listed))
    _, silent = refreshed(load_catalogue(), [*evil, "SQS"], cache, index=reference.url)
    assert reference.paths == ["/sqs.json"]
    assert silent == tuple(sorted(evil))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.json")) == [
        "deep/cache/index.json", "deep/cache/sqs.json"
    ]  # fmt: skip


def test_there_is_one_deadline_for_all_of_it(reference: Reference, tmp_path: Path) -> None:
    """An answer that comes byte by byte never lets a socket time out, and many slow services add up."""
    index = [{"service": f"a{n}", "url": f"{reference.url}a{n}.json"} for n in range(40)]
    (tmp_path / "index.json").write_text(json.dumps(index))
    for reference.drip, reference.slow in ((0.05, 0.0), (0.0, 0.3)):
        begun = time.monotonic()
        _, silent = refreshed(
            load_catalogue(), [f"a{n}" for n in range(40)], tmp_path, index=reference.url, seconds=0.5
        )
        assert time.monotonic() - begun < 1.5
        assert len(silent) > 30
