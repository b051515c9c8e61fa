"""Webhooks: signed as the specification says, sent nowhere private, tried again, never lost."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from app import courier, webhooks
from app.courier import Courier
from app.database import Database
from app.leases import LeaseStore
from app.placement_records import NewPlacement
from app.placements import PlacementStore
from app.schemas import State
from app.settings import Settings
from app.tables import DeliveryRow
from app.webhooks import DeliveryFailed, UnusableAddress, check_address, deliver, secret_of, sign
from tests.app.problem_checks import check
from tests.patience import PATIENCE_S, wait_until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Receiver:
    """An endpoint that answers as it is told and remembers what it got."""

    def __init__(self):
        self.statuses, self.got = [], []
        self.is_answering = threading.Event()
        self.is_answering.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                if self.path == "/slow":
                    receiver.is_answering.wait(PATIENCE_S)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count):
        """Until it has got so many, or already more."""
        assert wait_until(lambda: len(self.got) >= count), self.got


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def verify(headers, body, secret):
    """As a receiver does it, by the specification."""
    content = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert f"v1,{expected}" in headers["webhook-signature"].split(" ")
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def test_the_signature_of_the_specification():
    # the example of the specification's own libraries
    secret, message, payload = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
    )
    assert sign(secret, message, 1614265330, payload) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_secret_of_a_tenant_tells_nothing_of_another():
    assert secret_of("a", SECRET) == secret_of("a", SECRET) != secret_of("b", SECRET)
    assert SECRET not in (secret_of("a", SECRET), secret_of("default", SECRET))
    for wrong in ("whsec_", "whsec_c2hvcnQ=", "secret", "whsec_*"):
        with pytest.raises(ValidationError):
            Settings(webhook_secret=wrong)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https://user:pass@example.com/",
        "https://127.0.0.1/",
        "https://10.1.2.3/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[2002:0a00:0001::]/",
        "https://[64:ff9b::a00:1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://100.64.0.1/",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://[/",
        "https://[fec0::1]/",
        "https://[64:ff9b:1::a00:1]/",
        "https://[::10.0.0.1]/",
        "https://127.1/",
        "https://0/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://10.0.0.1./",
        "https://localhost/",
        "https://a b/",
        "https://a..b/",
        "https://münchen.example/",
        "https://example.com/a b",
        "https://example.com/ä",
        "https://example.com/\r\nHost: a.example",
    ],
)
def test_addresses_that_are_refused_at_the_door(url):
    with pytest.raises(UnusableAddress):
        check_address(url, may_be_private=False)


def test_addresses_that_are_fine():
    for url in (
        "https://example.com/hook?x=1",
        "https://EXAMPLE.com:8443",
        "https://a_b.my-hooks.xn--p1ai./%20",
        "https://93.184.215.14/",
        "https://[2606:4700::1111]/",
        "https://[::ffff:93.184.215.14]/",
    ):
        check_address(url, may_be_private=False)
    for url in ("http://127.0.0.1:80/", "http://localhost/", "http://receiver:8080/hook"):
        check_address(url, may_be_private=True)


def test_a_name_is_looked_up_once_and_all_its_addresses_must_be_public(monkeypatch):
    answers = [["93.184.215.14", "10.0.0.1"], ["127.0.0.1"], ["fe80::1%eth0"], ["93.184.215.14"]]
    connected = []

    def look_up(_host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in answers.pop(0)]

    def connect(address, _timeout):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(webhooks.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(webhooks.socket, "create_connection", connect)
    for reason in ("private", "private", "private", "ConnectionRefusedError"):
        with pytest.raises(DeliveryFailed, match=reason):
            deliver("https://rebind.example/", "msg_1", "{}", SECRET, may_be_private=False)
    assert connected == [("93.184.215.14", 443)]
    assert answers == []


def test_the_certificate_must_be_for_the_name_not_for_the_address(monkeypatch, receiver):
    """TLS to an endpoint without TLS fails, and the name that was asked for is the one that is checked."""
    names = []
    real = ssl.SSLContext.wrap_socket

    def wrap(context, sock, **fields):
        names.append((fields["server_hostname"], context.check_hostname, context.verify_mode))
        return real(context, sock, **fields)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    url = receiver.url.replace("http://127.0.0.1", "https://localhost")
    with pytest.raises(DeliveryFailed):
        deliver(url, "msg_1", "{}", SECRET, may_be_private=True)
    assert names == [("localhost", True, ssl.CERT_REQUIRED)]
    assert not receiver.got


@pytest.mark.parametrize(("status", "is_final"), [(500, False), (404, False), (302, False), (410, True)])
def test_only_success_is_a_delivery_and_redirections_lead_nowhere(receiver, status, is_final):
    receiver.statuses = [status]
    with pytest.raises(DeliveryFailed, match=str(status)) as caught:
        deliver(f"{receiver.url}/hook?a=b", "msg_1", "{}", SECRET, may_be_private=True)
    assert caught.value.is_final == is_final
    [(path, headers, body)] = receiver.got
    assert path == "/hook?a=b"
    verify(headers, body, SECRET)


def test_who_answers_a_byte_at_a_time_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(webhooks, "_DEADLINE_S", 0.5)
    given_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection:
                while not given_up.wait(0.05):
                    connection.sendall(b"H")

        threading.Thread(target=drip, daemon=True).start()
        try:
            with pytest.raises(DeliveryFailed):
                deliver(f"http://127.0.0.1:{server.getsockname()[1]}/", "id", "{}", SECRET, may_be_private=True)
        finally:
            given_up.set()


@pytest.fixture
def finish(tmp_path):
    """Ends a placement of a tenant, of which a message has to go to the address; gives its id."""
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite3", busy_timeout_s=5)
    database.migrate()
    clients, leases = PlacementStore(database, dispatcher_timeout_s=30), LeaseStore(database, lease_s=30)

    def finish(tenant, url):
        new = NewPlacement(
            tenant=tenant, request=b"", digest="d", fingerprint="f", time_limit_s=1, workers=1, webhook_url=url
        )
        placement_id, _ = clients.create(new)
        leases.finish(leases.lease_next("me", 1, 1, "v"), State.FAILED, 0.0, error={"detail": "x"})
        return placement_id

    finish.database = database
    yield finish
    database.close()


def test_a_message_is_tried_again_with_the_same_id_and_survives_a_restart(finish, receiver, monkeypatch, caplog):
    monkeypatch.setattr(courier, "_DELAYS_S", (0.05, 0.05, 0.05))
    monkeypatch.setattr(courier, "_TICK_S", 0.05)
    placement_id = finish("t", receiver.url)
    receiver.statuses = [500, 500]
    first = Courier(finish.database, SECRET, may_be_private=True)
    first.start()
    receiver.wait_for(1)
    first.stop()
    second = Courier(finish.database, SECRET, may_be_private=True)
    second.start()
    receiver.wait_for(3)
    second.stop()
    [message_id] = {headers["webhook-id"] for _, headers, _ in receiver.got}
    body = json.loads(receiver.got[-1][2])
    assert body["type"] == "placement.failed"
    assert body["data"]["id"] == placement_id
    verify(receiver.got[-1][1], receiver.got[-1][2], secret_of("t", SECRET))
    with finish.database.read() as session:
        row = session.get(DeliveryRow, message_id)
        assert (row.attempts, row.next_attempt_at, row.last_error) == (3, None, None)
        assert row.delivered_at
    failures = [record for record in caplog.records if "not delivered" in record.getMessage()]
    assert [(failure.placement, failure.delivery) for failure in failures] == [(placement_id, message_id)] * 2


def test_receivers_that_do_not_answer_hold_up_nobody_else(finish, receiver, monkeypatch):
    for limit in ("_TIMEOUT_S", "_DEADLINE_S"):
        monkeypatch.setattr(webhooks, limit, 2 * PATIENCE_S)
    for _ in range(20):
        finish("slow", f"{receiver.url}/slow")
    for _ in range(20):
        finish("quick", f"{receiver.url}/quick")
    receiver.is_answering.clear()
    made = Courier(finish.database, SECRET, may_be_private=True)
    made.start()

    def count(path):
        return [got[0] for got in receiver.got].count(path)

    try:
        arrived = wait_until(lambda: count("/quick") == 20 and count("/slow") >= 8)
        under_way = count("/slow")
    finally:
        receiver.is_answering.set()
        receiver.wait_for(40 if arrived else 20)
        made.stop()
    assert arrived
    assert under_way == 8  # the share of one tenant


def test_the_service_tells_when_a_placement_has_ended(start_server, receiver, tiny):
    live = start_server(WEBHOOK_SECRET=SECRET, WEBHOOK_ALLOW_PRIVATE=True)
    params = {"webhook_url": f"{receiver.url}/done"}
    job = live.http.post("/placements", params=params, json=tiny).json()
    receiver.wait_for(1)
    [(path, headers, body)] = receiver.got
    assert path == "/done"
    verify(headers, body, secret_of("default", SECRET))
    assert json.loads(body)["data"] == {
        "id": job["id"],
        "state": "succeeded",
        **{name: job["result"][name] for name in ("objective_value", "best_bound", "relative_gap")},
    }


def test_a_service_without_webhooks_says_so(client, tiny):
    answer = client.post("/placements", params={"webhook_url": "https://example.com/"}, json=tiny)
    problem = check(answer, 422, "invalid-parameter")
    assert problem["issues"][0]["pointer"] == "/query/webhook_url"


def test_a_service_with_webhooks_sends_none_into_the_private_network(start_server, tiny):
    live = start_server(WEBHOOK_SECRET=SECRET)
    params = {"webhook_url": "https://127.0.0.1/"}
    check(live.http.post("/placements", params=params, json=tiny), 422, "invalid-parameter")
