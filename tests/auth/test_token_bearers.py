"""Whoever shows a token at the door, in a service that also takes keys."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from app.auth.allowance import NO_BOUNDS
from app.auth.keys import KeyStore
from app.auth.scopes import Scope
from app.main import create_app
from app.settings import Settings
from tests.auth.issuer import ISSUER, Issuer, make_verifier, sign


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def app(tmp_path, issuer):
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'jobs.sqlite3'}",
        authentication="on",
        oidc_issuer=ISSUER,
        oidc_audience="placewright",
        requests_per_minute=20,
    )
    app = create_app(settings)
    app.state.guard._tokens = make_verifier(issuer)
    app.state.runtime.database.migrate()
    yield app
    app.state.runtime.database.close()


@pytest.fixture
def ask(app):
    """The answer to a request with this credential."""

    def ask(credential, path="/placements", **headers):
        async def send():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
                return await http.get(path, headers={"Authorization": f"Bearer {credential}"} | headers)

        return asyncio.run(send())

    return ask


def test_a_token_opens_the_door(ask):
    assert ask(sign()).json() == {"placements": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        (
            lambda: sign(aud="another"),
            "The token is not accepted. It was issued by another issuer, or for another service.",
        ),
        (lambda: sign(exp=1), "The token is not accepted. It has expired."),
        (lambda: "nonsense", "The token is not accepted. It is broken, or was not signed by the issuer."),
    ],
)
def test_another_does_not_and_is_told_why(ask, token, detail):
    answer = ask(token())
    assert answer.status_code == 401
    assert answer.json()["detail"] == detail
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_scopes_of_tokens_count(ask):
    assert ask(sign(scope="write")).status_code == 403
    assert ask(sign(scope="metrics"), "/metrics").status_code == 200
    assert ask(sign(scope="admin"), **{"Placewright-Tenant": "other"}).status_code == 200
    assert ask(sign(), **{"Placewright-Tenant": "other"}).status_code == 403


def test_without_the_issuer_nothing_can_be_said(ask, issuer):
    issuer.failure = httpx.ConnectError("refused")
    answer = ask(sign())
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:placewright:problem:issuer-unreachable"
    assert int(answer.headers["Retry-After"]) >= 1


def test_keys_open_it_too_and_the_issuer_is_not_asked(app, ask, issuer):
    keys = KeyStore(app.state.runtime.database)
    _, text = keys.create(tenant="acme", name="ci", scopes=[Scope.READ], allowance=NO_BOUNDS)
    assert ask(text).status_code == 200
    assert ask("pw_0123456789abcdef_" + "a" * 43).status_code == 401
    assert not issuer.asked


def test_bounds_are_those_of_the_settings(ask):
    token = sign()
    assert [ask(token).status_code for _ in range(21)] == [200] * 20 + [429]
    assert ask(sign(sub="bob")).status_code == 200


def test_bounds_can_be_read(ask):
    limits = ask(sign(), "/limits").json()
    assert limits["requests_per_minute"] == 20
    assert limits["max_jobs"] is None
