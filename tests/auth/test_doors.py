"""A real server that wants keys: who gets in, and what each may see. Routes are read from its OpenAPI document, so a
new one cannot be forgotten.
"""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from app.auth.allowance import Allowance
from app.auth.guard import warn_of_open_door
from app.main import create_app
from app.settings import Settings

PUBLIC = {"/livez", "/readyz"}
"""Of the documented routes; what else is open is the documentation itself."""


def list_operations():
    """Method and path of every documented route."""
    paths = create_app(Settings()).openapi()["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item if method != "parameters"]


OPERATIONS = list_operations()
GUARDED = [operation for operation in OPERATIONS if operation[1] not in PUBLIC]
OF_ONE_PLACEMENT = [operation for operation in GUARDED if "{placement_id}" in operation[1]]


def ask(http, method, path, placement_id="nothing", **options):
    """Send a request; one whose body is read at all has an empty document."""
    body = {"json": {}} if method == "POST" else {}
    return http.request(method, re.sub(r"\{\w+\}", placement_id, path), **body | options)


@pytest.fixture(scope="session")
def theirs(guarded, tiny):
    """A finished placement of another tenant."""
    with guarded.connect(tenant="theirs") as http:
        answer = http.post("/placements", json=tiny)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]


def test_there_are_routes_to_try():
    assert len(GUARDED) >= 2
    assert ("GET", "/placements/{placement_id}") in OF_ONE_PLACEMENT


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=" ".join)
def test_nothing_happens_without_a_key(guarded, method, path):
    answer = ask(guarded.http, method, path)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="placewright"'
    assert answer.json()["type"] == "urn:placewright:problem:not-authenticated"


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer pw_0123456789abcdef_" + "a" * 43,
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer",
        "Basic dXNlcjpwYXNz",
        "\x80",
    ],
)
def test_a_wrong_credential_is_no_credential(guarded, credential):
    answer = guarded.http.get("/placements/x", headers={"Authorization": credential.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="placewright"')


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json"])
def test_some_things_are_open(guarded, path):
    assert guarded.http.get(path).status_code == 200


@pytest.mark.parametrize(("method", "path"), OF_ONE_PLACEMENT, ids=" ".join)
def test_what_another_tenant_has_does_not_exist(guarded, theirs, method, path):
    nobody = str(uuid4())
    with guarded.connect(tenant="mine") as http:
        answer, expected = ask(http, method, path, theirs), ask(http, method, path, nobody)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:placewright:problem:placement-not-found"
    # and not even by its words can it be told from what nobody has
    assert answer.text.replace(theirs, "ID") == expected.text.replace(nobody, "ID")
    varying = {"date", "content-length"}
    assert {k: v for k, v in answer.headers.items() if k not in varying} == {
        k: v for k, v in expected.headers.items() if k not in varying
    }


def test_it_is_still_there_for_its_own(guarded, theirs):
    with guarded.connect(tenant="theirs") as http:
        assert http.get(f"/placements/{theirs}").json()["state"] == "succeeded"


def test_lists_show_only_ones_own(guarded, theirs):
    if ("GET", "/placements") not in GUARDED:
        pytest.fail("there is no list")
    with guarded.connect(tenant="mine") as mine, guarded.connect(tenant="theirs") as others:
        assert theirs not in mine.get("/placements").text
        assert theirs in others.get("/placements").text


def test_an_idempotency_key_is_ones_own(guarded, tiny):
    headers = {"Idempotency-Key": "nightly"}
    ids = []
    for tenant in ("first", "second", "first"):
        with guarded.connect(tenant=tenant) as http:
            answer = http.post("/placements", json=tiny, headers=headers)
        assert answer.status_code == 200, answer.text
        ids.append(answer.json()["id"])
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=" ".join)
def test_a_key_does_only_what_its_scopes_say(guarded, method, path):
    """A key that may only scrape metrics may do nothing else, and no other key may scrape them."""
    is_metrics = path == "/metrics"
    with guarded.connect(scopes=["read", "write"] if is_metrics else ["metrics"]) as http:
        answer = ask(http, method, path)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:placewright:problem:not-allowed"
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_reading_and_writing_are_two_things(guarded, tiny, theirs):
    with guarded.connect(tenant="theirs", scopes=["read"]) as http:
        assert http.get(f"/placements/{theirs}").status_code == 200
        answer = http.post("/placements", json=tiny)
        assert answer.status_code == 403
        assert 'scope="write"' in answer.headers["WWW-Authenticate"]
        assert answer.json()["detail"] == "This takes the scope 'write', which the key lacks."
        assert http.post("/placements/validate", json=tiny).status_code == 200
    with guarded.connect(tenant="theirs", scopes=["write"]) as http:
        assert http.get(f"/placements/{theirs}").status_code == 403


def test_a_refused_document_is_not_even_read(guarded):
    with guarded.connect(scopes=["read"]) as http:
        assert http.post("/placements", content=b"{", headers={"Content-Type": "text/plain"}).status_code == 403


def test_an_admin_may_act_for_any_tenant(guarded, theirs):
    with guarded.connect(tenant="operators", scopes=["admin"]) as http:
        assert http.get(f"/placements/{theirs}").status_code == 404
        answer = http.get(f"/placements/{theirs}", headers={"Placewright-Tenant": "theirs"})
        assert answer.status_code == 200
        assert http.get("/placements/x", headers={"Placewright-Tenant": "../x"}).status_code == 403
    with guarded.connect(tenant="mine") as http:
        answer = http.get(f"/placements/{theirs}", headers={"Placewright-Tenant": "theirs"})
        assert answer.status_code == 403
        own = http.get(f"/placements/{theirs}", headers={"Placewright-Tenant": "mine"})
        assert own.status_code == 404  # naming oneself is no offence


def test_without_authentication_nobody_can_name_a_tenant(start_guarded):
    live = start_guarded(AUTHENTICATION="off")
    assert live.http.get("/placements/x").status_code == 404
    assert live.http.get("/placements/x", headers={"Placewright-Tenant": "acme"}).status_code == 403


# --- how much --------------------------------------------------------------------------------------------------------


def test_a_key_may_ask_so_often_and_no_more(guarded):
    with guarded.connect(allowance=Allowance(requests_per_minute=3)) as http:
        answers = [http.get("/placements/x") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 60
        assert answers[3].json()["type"] == "urn:placewright:problem:rate-limited"
    with guarded.connect(allowance=Allowance(requests_per_minute=3)) as http:
        assert http.get("/placements/x").status_code == 404  # another key counts for itself


def test_the_rate_of_the_settings_is_for_whoever_has_none(start_guarded):
    live = start_guarded(REQUESTS_PER_MINUTE=2)
    with live.connect() as http:
        assert [http.get("/placements/x").status_code for _ in range(3)] == [404, 404, 429]
    with live.connect(allowance=Allowance(requests_per_minute=50)) as http:
        assert [http.get("/placements/x").status_code for _ in range(3)] == [404, 404, 404]


def test_a_key_may_have_so_many_placements_at_once(guarded, slow, tiny):
    never_wait = {"Prefer": "respond-async"}
    key = guarded.make_key(tenant="crowd", allowance=Allowance(max_jobs=2))
    with guarded.connect(key=key) as http:
        running = [http.post("/placements", json=slow, headers=never_wait) for _ in range(2)]
        assert [answer.status_code for answer in running] == [202, 202]
        refused = http.post("/placements", json=tiny, headers=never_wait)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["type"] == "urn:placewright:problem:quota-exceeded"
        assert "may have 2" in refused.json()["detail"]
        for answer in running:
            http.post(f"/placements/{answer.json()['id']}/cancel", json={"mode": "discard"})
            http.get(f"/placements/{answer.json()['id']}", headers={"Prefer": "wait=100"})
        assert http.post("/placements", json=tiny).status_code == 200


def test_a_repeated_request_is_no_second_placement(guarded, tiny):
    with guarded.connect(tenant="again", allowance=Allowance(cpu_seconds_per_day=30.001)) as http:
        document = tiny | {"solver": {"time_limit_s": 30, "workers": 1}}
        headers = {"Idempotency-Key": "once"}
        answers = [http.post("/placements", json=document, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_key_may_use_so_many_cpu_seconds(guarded, tiny, slow):
    with guarded.connect(tenant="frugal", allowance=Allowance(cpu_seconds_per_day=59.0)) as http:
        greedy = http.post("/placements", json=tiny | {"solver": {"time_limit_s": 30, "workers": 2}})
        assert greedy.status_code == 429
        assert "60 CPU-seconds" in greedy.json()["detail"]
        # what is finished counts with what it took, so two tiny ones fit one after the other
        document = tiny | {"solver": {"time_limit_s": 30, "workers": 1}}
        assert [http.post("/placements", json=document).status_code for _ in range(2)] == [200, 200]
        # what is running counts with its whole time limit
        slow = slow | {"solver": {"time_limit_s": 30, "workers": 1}}
        running = http.post("/placements", json=slow, headers={"Prefer": "respond-async"})
        assert running.status_code == 202
        refused = http.post("/placements", json=document)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 3600
        http.post(f"/placements/{running.json()['id']}/cancel", json={"mode": "discard"})


# --- what is written down --------------------------------------------------------------------------------------------


def test_changes_and_refusals_are_in_the_audit_log(start_guarded, slow, tiny):
    live = start_guarded()
    key = live.make_key(tenant="acme")
    with live.connect(key=key) as http:
        placement = http.post("/placements", json=slow, headers={"Prefer": "respond-async"}).json()
        http.post(f"/placements/{placement['id']}/cancel", json={"mode": "discard"})
        http.get(f"/placements/{placement['id']}", headers={"Prefer": "wait=100"})
        assert http.delete(f"/placements/{placement['id']}").status_code == 204
        solved = http.post("/placements", json=tiny).json()
    live.http.get("/placements/x", headers={"Authorization": "Bearer pw_guess"})
    live.stop()
    log = live.log.read_text()
    lines = [line for line in log.splitlines() if "placewright.audit" in line]
    assert len(lines) == 5, log
    key_id = key.split("_")[1]
    made, cancelled, deleted, waited_for, refused = lines
    who = f"tenant=acme key={key_id} client=127.0.0.1"
    assert f"answered [{who} method=POST route=/placements placement={placement['id']} status=202]" in made
    assert f"route=/placements/{{placement_id}}/cancel placement={placement['id']} status=202]" in cancelled
    assert "method=DELETE" in deleted
    assert f"placement={placement['id']}" in deleted
    assert f"route=/placements placement={solved['id']} status=200]" in waited_for
    assert "turned away [client=127.0.0.1 method=GET route=/placements/{placement_id} status=401]" in refused
    assert key.split("_", 2)[2] not in log
    assert "pw_guess" not in log


@pytest.mark.parametrize(
    ("host", "is_loud"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("solver.example.org", True),
    ],
)
def test_an_open_door_to_the_network_is_said_loudly(host, is_loud, caplog):
    warn_of_open_door(host, Settings())
    assert ("AUTHENTICATION IS OFF" in caplog.text) is is_loud
    caplog.clear()
    warn_of_open_door(host, Settings(authentication="on"))
    assert not caplog.text
