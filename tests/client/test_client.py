"""The clients against a scripted service: what they send, and how they take failures. Each test runs for both."""

from __future__ import annotations

import gzip
import inspect
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from app import client as package
from app.client import (
    AsyncClient,
    Client,
    ClientError,
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Options,
    PlacementFailed,
    ProblemReceived,
    Retry,
    ServiceUnavailable,
    ServiceUnreachable,
    TooManyRequests,
    UnexpectedAnswer,
    WaitTimeout,
)

DOCUMENT = {"graph": {"operators": []}}


def placement(state, **fields):
    return {"id": "p-1", "state": state, "result": None, "error": None} | fields


def answer(body, status=200, **headers):
    return httpx.Response(status, json=body, headers=headers)


def problem(status, code, detail="Because.", **headers):
    body = {"type": f"urn:placewright:problem:{code}", "title": "No", "status": status, "detail": detail}
    return httpx.Response(
        status, content=json.dumps(body), headers={"Content-Type": "application/problem+json"} | headers
    )


def test_both_clients_offer_the_same():
    def surface(kind):
        return {
            name: (
                [p.replace(annotation=None) for p in inspect.signature(member).parameters.values()],
                inspect.getdoc(member),
            )
            for name, member in vars(kind).items()
            if not name.startswith("_")
        }

    assert surface(Client) == surface(AsyncClient)


def test_submits_with_a_key_and_without_waiting(serve):
    service = serve(answer(placement("queued"), 202))
    assert service("submit", DOCUMENT)["state"] == "queued"
    [request] = service.requests
    assert str(request.url) == "http://service/api/placements"
    assert request.headers["Authorization"] == "Bearer pw_secret"
    assert request.headers["Prefer"] == "respond-async"
    assert len(request.headers["Idempotency-Key"]) >= 32
    assert json.loads(request.content) == DOCUMENT


def test_every_submission_has_a_key_of_its_own_that_its_repetitions_share(serve, pauses):
    service = serve(httpx.ReadError("cut"), answer(placement("queued"), 202), answer(placement("queued"), 202))
    service("submit", DOCUMENT)
    service("submit", DOCUMENT)
    first, again, second = (request.headers["Idempotency-Key"] for request in service.requests)
    assert first == again != second
    assert len(pauses) == 1


def test_the_key_can_be_the_callers(serve):
    service = serve(answer(placement("queued"), 202))
    service("submit", DOCUMENT, Options(idempotency_key="nightly-17"), wait_s=2.2)
    assert service.requests[0].headers["Idempotency-Key"] == "nightly-17"
    assert service.requests[0].headers["Prefer"] == "wait=3"


def test_large_documents_travel_compressed(serve):
    service = serve(answer({"valid": True}))
    document = {"graph": {"name": "x" * 100_000}}
    service("validate", document)
    [request] = service.requests
    assert request.headers["Content-Encoding"] == "gzip"
    assert len(request.content) < 10_000
    assert json.loads(gzip.decompress(request.content)) == document


def test_a_file_is_sent_as_it_is(serve):
    service = serve(answer({"valid": True}))
    service("validate", b'{"graph":  {}}')
    assert service.requests[0].content == b'{"graph":  {}}'


@pytest.mark.parametrize(
    ("operation", "arguments", "method", "path"),
    [
        ("read", ["a/b"], "GET", "/api/placements/a%2Fb"),
        ("status", ["p"], "GET", "/api/placements/p/status"),
        ("validate", [DOCUMENT], "POST", "/api/placements/validate"),
        ("evaluate", [DOCUMENT, {}], "POST", "/api/placements/evaluate"),
        ("list_page", [], "GET", "/api/placements"),
        ("limits", [], "GET", "/api/limits"),
        ("solvers", [], "GET", "/api/solvers"),
        ("example", ["tiny"], "GET", "/api/examples/tiny"),
    ],
)
def test_asks_at_the_right_address(serve, operation, arguments, method, path):
    service = serve(answer({"it": "is"}))
    assert service(operation, *arguments) == {"it": "is"}
    assert (service.requests[0].method, service.requests[0].url.raw_path) == (method, path.encode())


def test_sends_the_parameters_that_were_given(serve):
    log = httpx.Response(200, content=b"lines", headers={"Next-Byte": "105"})
    service = serve(answer({}), answer({"incumbents": [{"sequence": 8}]}), log)
    service("list_page", state="running", limit=5, cursor="a+b")
    assert service("incumbents", "p", after=7) == [{"sequence": 8}]
    assert service("log", "p", from_byte=100) == (b"lines", 105)
    queries = [dict(request.url.params) for request in service.requests]
    assert queries == [
        {"state": "running", "limit": "5", "cursor": "a+b"},
        {"after": "7", "limit": "100"},
        {"from_byte": "100"},
    ]


def test_sends_the_options_of_a_submission(serve):
    service = serve(answer(placement("queued"), 202))
    options = Options(tags=["a b", "c"], priority=-3, max_wait_s=60, warm_start="p-0", webhook_url="https://x/?y=1")
    service("submit", DOCUMENT, options)
    assert service.requests[0].url.params.multi_items() == [
        ("tag", "a b"),
        ("tag", "c"),
        ("priority", "-3"),
        ("max_wait_s", "60"),
        ("warm_start", "p-0"),
        ("webhook_url", "https://x/?y=1"),
    ]


@pytest.mark.parametrize("document", [DOCUMENT, json.dumps(DOCUMENT).encode()])
def test_evaluates_a_document_or_a_file(serve, document):
    service = serve(answer({"valid": True}))
    service("evaluate", document, {"a": "gpu"})
    assert json.loads(service.requests[0].content) == {"request": DOCUMENT, "placement": {"a": "gpu"}}


@pytest.mark.parametrize("explain", [True, "a"])
def test_asks_why(serve, explain):
    service = serve(answer({"valid": True}))
    service("evaluate", DOCUMENT, {"a": "gpu"}, explain=explain)
    assert json.loads(service.requests[0].content)["explain"] == explain


def test_cancels_and_deletes(serve):
    service = serve(answer(placement("cancelling"), 202), httpx.Response(204))
    assert service("cancel", "p") is None
    assert service("delete", "p") is None
    assert json.loads(service.requests[0].content) == {"mode": "keep_best"}
    assert service.requests[1].method == "DELETE"


def test_lists_page_after_page(serve):
    pages = [{"placements": [placement("queued", id=i)], "next_cursor": cursor} for i, cursor in [(1, "c"), (2, None)]]
    service = serve(*map(answer, pages))
    assert [entry["id"] for entry in service("list_placements", tag="nightly")] == [1, 2]
    assert [dict(request.url.params) for request in service.requests] == [
        {"tag": "nightly"},
        {"tag": "nightly", "cursor": "c"},
    ]


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
)
def test_asks_again_when_no_answer_comes(serve, pauses, failure):
    service = serve(failure, failure, answer({"state": "running"}))
    assert service("status", "p") == {"state": "running"}
    assert 0.125 <= pauses[0] <= 0.25 <= pauses[1] <= 0.5


def test_gives_up_in_the_end(serve, pauses):
    service = serve(*[httpx.ConnectError("refused")] * 4, retry=Retry(attempts=4, first_s=1, most_s=2))
    with pytest.raises(ServiceUnreachable, match="refused"):
        service("status", "p")
    assert len(pauses) == 3
    assert all(pause <= 2 for pause in pauses)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_waits_as_long_as_the_service_asks(serve, pauses, status):
    service = serve(problem(status, "later", **{"Retry-After": "7"}), answer({"state": "running"}))
    service("status", "p")
    assert 7 <= pauses[0] <= 7.25


def test_understands_a_date_to_come_back_at(serve, pauses):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service = serve(problem(503, "later", **{"Retry-After": date}), answer({"state": "running"}))
    service("status", "p")
    assert 15 <= pauses[0] <= 21


def test_does_not_wait_for_an_hour(serve, pauses):
    service = serve(problem(503, "later", **{"Retry-After": "3600"}))
    with pytest.raises(ServiceUnavailable) as caught:
        service("status", "p")
    assert caught.value.retry_after_s == 3600
    assert not pauses


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", ""])
def test_an_unreadable_time_to_come_back_is_none(serve, pauses, value):
    response = problem(503, "later")
    response.headers["Retry-After"] = value
    service = serve(response, answer({"state": "running"}))
    service("status", "p")
    assert pauses[0] <= 0.25


def test_fails_fast_when_asked_to(serve, pauses):
    service = serve(problem(429, "queue-full", **{"Retry-After": "1"}))
    with pytest.raises(TooManyRequests) as caught:
        service("submit", DOCUMENT, Options(max_wait_s=0))
    assert caught.value.code == "queue-full"
    assert not pauses


def test_a_key_that_is_being_answered_is_asked_for_again(serve, pauses):
    service = serve(httpx.ReadTimeout("slow"), problem(409, "request-in-flight"), answer(placement("queued"), 202))
    assert service("submit", DOCUMENT)["id"] == "p-1"
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, NotAuthenticated),
        (403, NotAllowed),
        (404, NotFound),
        (405, ProblemReceived),
        (409, Conflict),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, ProblemReceived),
    ],
)
def test_a_refusal_is_an_error_with_the_problem_in_it(serve, pauses, status, kind):
    service = serve(problem(status, "some-problem"))
    with pytest.raises(ClientError, match=r"^No: Because\.$") as caught:
        service("read", "p")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "some-problem")
    assert caught.value.problem["detail"] == "Because."
    assert not pauses


def test_faults_of_a_document_are_in_the_error(serve):
    issues = [{"code": "self_loop", "pointer": "/graph/edges/1", "message": "depends on itself", "hint": "remove it"}]
    response = httpx.Response(422, json={"type": "urn:placewright:problem:invalid-document", "issues": issues})
    with pytest.raises(InvalidRequest) as caught:
        serve(response)("validate", DOCUMENT)
    assert caught.value.issues == issues


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(502, html="<h1>Bad\n gateway</h1>"),
        httpx.Response(502, content=b"\xff\xfe", headers={"Content-Type": "application/json"}),
        httpx.Response(502, json=["no", "object"]),
        httpx.Response(599),
    ],
)
def test_an_error_that_is_no_problem_document_is_an_error_all_the_same(serve, response):
    with pytest.raises(ProblemReceived, match=r"502 Bad Gateway|599"):
        serve(response, retry=Retry(attempts=1))("read", "p")


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, html="<h1>Log in</h1>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, content=b"{", headers={"Content-Type": "application/json"}),
        httpx.Response(302, headers={"Location": "http://elsewhere/"}),
    ],
)
def test_something_else_at_the_address_is_told_apart(serve, response):
    service = serve(response)
    with pytest.raises(UnexpectedAnswer):
        service("read", "p")
    assert len(service.requests) == 1  # above all, the key goes nowhere else


def test_a_delete_whose_answer_was_lost_has_worked(serve):
    service = serve(httpx.ReadError("cut"), problem(404, "placement-not-found"))
    assert service("delete", "p") is None
    with pytest.raises(NotFound):
        serve(problem(404, "placement-not-found"))("delete", "p")


@pytest.mark.parametrize("url", ["service", "ftp://service", "http://", "http://a:b:c"])
def test_an_address_that_can_be_none_is_refused_at_once(url):
    with pytest.raises(ValueError, match="is no address"):
        Client(url)


def test_a_key_that_can_be_none_is_refused_at_once_and_not_repeated():
    with pytest.raises(ValueError, match="API key") as caught:
        AsyncClient("http://service", api_key="se\ncret")
    assert "cret" not in str(caught.value)


# --- waiting -------------------------------------------------------------------------------------------------------


def test_waits_in_long_polls(serve, pauses):
    service = serve(answer(placement("running"), **{"Retry-After": "3"}), answer(placement("succeeded", result={})))
    assert service("wait", "p-1")["state"] == "succeeded"
    assert [request.headers["Prefer"] for request in service.requests] == ["wait=30", "wait=30"]
    # the first answer came long before the 30 s were over, so the second question waits
    assert 1.5 <= pauses[0] <= 3


def test_a_long_poll_may_take_as_long_as_it_asked_for(serve):
    service = serve(answer(placement("succeeded")))
    service("wait", "p-1")
    assert service.requests[0].extensions["timeout"]["read"] == 60
    assert service.requests[0].extensions["timeout"]["connect"] == 30


def test_waiting_survives_a_restart_of_the_service(serve, pauses):
    service = serve(
        answer(placement("running")),
        httpx.ConnectError("refused"),
        problem(503, "not-ready", **{"Retry-After": "5"}),
        answer(placement("succeeded")),
    )
    assert service("wait", "p-1")["state"] == "succeeded"
    assert len(pauses) == 3


def test_waiting_has_an_end(serve):
    service = serve(answer(placement("running", result={"objective_value": 3.5})))
    with pytest.raises(WaitTimeout, match=r"p-1 is running after 0 s") as caught:
        service("wait", "p-1", timeout_s=0)
    assert caught.value.placement["result"] == {"objective_value": 3.5}
    assert service.requests[0].headers["Prefer"] == "wait=0"


def test_solves_and_waits(serve):
    service = serve(answer(placement("queued"), 202), answer(placement("succeeded", result={"status": "optimal"})))
    assert service("solve_and_wait", DOCUMENT)["result"] == {"status": "optimal"}
    assert [request.method for request in service.requests] == ["POST", "GET"]


def test_an_answer_that_is_there_at_once_is_not_asked_for_again(serve):
    service = serve(answer(placement("succeeded", result={})))
    assert service("solve_and_wait", DOCUMENT, Options(idempotency_key="again"))["state"] == "succeeded"


@pytest.mark.parametrize("state", ["failed", "expired"])
def test_a_solve_that_failed_is_an_error_with_the_best_in_it(serve, state):
    error = {"title": "The solving process died", "detail": "Killed."}
    service = serve(
        answer(placement("queued"), 202), answer(placement(state, error=error, result={"objective_value": 4.0}))
    )
    with pytest.raises(PlacementFailed, match=f"p-1 ended as {state}: Killed") as caught:
        service("solve_and_wait", DOCUMENT)
    assert caught.value.placement["result"] == {"objective_value": 4.0}


# --- events --------------------------------------------------------------------------------------------------------


def event(number, kind="incumbent", **data):
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def test_yields_events_to_the_end(serve, stream):
    service = serve(stream(event(1, "state", state="running"), event(2, value=3), event(3, "end", state="succeeded")))
    events = service("events", "p")
    assert [(e.id, e.kind) for e in events] == [("1", "state"), ("2", "incumbent"), ("3", "end")]
    assert events[1].data == {"value": 3}
    [request] = service.requests
    assert request.url.path == "/api/placements/p/events"
    assert request.headers["Accept"] == "text/event-stream"
    assert "Last-Event-ID" not in request.headers


def test_a_stream_cut_in_the_middle_goes_on_where_it_was(serve, stream, pauses):
    service = serve(
        stream(event(1), event(2)[:15], httpx.ReadError("cut")),
        httpx.ConnectError("refused"),
        problem(503, "not-ready"),
        stream(event(2), b": still here\n\n", event(3)),  # ends in good order, but too early
        stream(event(4, "end")),
    )
    assert [e.id for e in service("events", "p")] == ["1", "2", "3", "4"]
    assert [request.headers.get("Last-Event-ID") for request in service.requests] == [None, "1", "1", "1", "3"]
    assert len(pauses) == 4


def test_listening_can_start_in_the_middle(serve, stream):
    service = serve(stream(event(8, "end")))
    assert len(service("events", "p", after="7")) == 1
    assert service.requests[0].headers["Last-Event-ID"] == "7"


def test_a_stream_that_never_brings_anything_is_given_up(serve, stream):
    service = serve(*(stream(b": hello\n\n") for _ in range(3)), retry=Retry(attempts=3))
    with pytest.raises(ServiceUnreachable, match="too early"):
        service("events", "p")


def test_a_stream_that_brings_something_now_and_then_is_not_given_up(serve, stream):
    cuts = [stream(event(i), httpx.ReadTimeout("silence")) for i in range(20)]
    service = serve(*cuts, stream(event(20, "end")), retry=Retry(attempts=3))
    assert len(service("events", "p")) == 21


def test_the_service_says_when_to_connect_again(serve, stream, pauses):
    service = serve(stream(b"retry: 4000\n\n", event(1)), stream(event(2, "end")))
    service("events", "p")
    assert 4 <= pauses[0] <= 4.25


def test_a_refused_stream_is_an_error(serve):
    with pytest.raises(NotFound):
        serve(problem(404, "placement-not-found"))("events", "p")


def test_a_stream_of_something_else_is_an_error(serve, stream):
    with pytest.raises(UnexpectedAnswer, match="no JSON object"):
        serve(stream(b"data: <h1>\n\n"))("events", "p")


def test_everything_in_the_package_is_there():
    assert all(hasattr(package, name) for name in package.__all__)
