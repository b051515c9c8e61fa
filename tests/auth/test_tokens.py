"""OIDC tokens: only those that the issuer signed, for this service, now."""

from __future__ import annotations

import json
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from app.auth import tokens as module
from app.auth.tokens import IssuerUnreachable, TokenRefused
from tests.auth.issuer import EC_KEY, ISSUER, OTHER_RSA_KEY, RSA_KEY, Issuer, make_verifier, public, sign


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def verifier(issuer):
    return make_verifier(issuer)


def test_reads_who_it_is(verifier):
    bearer = verifier.verify(sign())
    assert (bearer.id, bearer.tenant, bearer.scopes) == ("oidc:alice", "acme", {"read", "write"})


def test_takes_every_allowed_signature(verifier):
    assert verifier.verify(sign(EC_KEY, "ES256", "ec")).tenant == "acme"


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("placewright:read openid email", {"read"}),
        (["read", "placewright:admin"], {"read", "admin"}),
        ("", set()),
        (None, set()),
        (7, set()),
    ],
)
def test_scopes_come_in_several_forms(verifier, scope, expected):
    assert verifier.verify(sign(scope=scope)).scopes == expected


def test_a_long_subject_fits_its_column(verifier):
    ids = {verifier.verify(sign(sub="x" * 200 + end)).id for end in "ab"}
    assert len(ids) == 2
    assert all(len(name) <= 64 for name in ids)


NOW = int(time.time())


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (lambda: sign(exp=NOW - 3600, iat=NOW - 7200), "expired"),
        (lambda: sign(exp=None), "does not say 'exp'"),
        (lambda: sign(sub=None), "does not say 'sub'"),
        (lambda: sign(iat=None), "does not say 'iat'"),
        (lambda: sign(iat=NOW + 3600, exp=NOW + 7200), "broken"),
        (lambda: sign(nbf=NOW + 3600), "broken"),
        (lambda: sign(aud="another"), "another service"),
        (lambda: sign(aud=None), "another|does not say"),
        (lambda: sign(iss="https://evil.example.org"), "another issuer"),
        (lambda: sign(iss=ISSUER + "/"), "another issuer"),
        (lambda: sign(OTHER_RSA_KEY), "not signed by the issuer"),
        (lambda: sign(kid="nobody"), "does not list"),
        (lambda: sign(kid=None), "does not list"),
        (lambda: sign(OTHER_RSA_KEY, kid="enc"), "does not list"),
        (lambda: sign(RSA_KEY, "RS512"), "not accepted"),
        (lambda: sign(tenant=None), "names no tenant"),
        (lambda: sign(tenant="../acme"), "names no tenant"),
        (lambda: sign(tenant=["acme"]), "names no tenant"),
        (lambda: "a.b.c", "broken"),
        (lambda: "", "broken"),
        (lambda: sign()[:-4] + "AAAA", "not signed by the issuer"),
    ],
)
def test_refuses_what_is_not_good(verifier, token, words):
    with pytest.raises(TokenRefused, match=words):
        verifier.verify(token())


def test_refuses_a_token_without_a_signature(verifier):
    claims = jwt.decode(sign(), options={"verify_signature": False})
    with pytest.raises(TokenRefused, match="not accepted"):
        verifier.verify(jwt.encode(claims, None, "none", headers={"kid": "rsa"}))


def test_the_public_key_is_no_shared_secret(issuer):
    """Signed with the text of the public key, which everybody has; a verifier that lets the token choose takes it."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(sign(), options={"verify_signature": False})
    header = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode())
    body = header + b"." + jwt.utils.base64url_encode(json.dumps(claims).encode())
    signature = jwt.get_algorithm_by_name("HS256").sign(body, pem)
    forged = (body + b"." + jwt.utils.base64url_encode(signature)).decode()
    for algorithms in (("RS256",), ("RS256", "HS256")):  # even if the settings let it through
        with pytest.raises(TokenRefused):
            make_verifier(issuer, algorithms=algorithms).verify(forged)


def test_asks_for_the_keys_once(issuer, verifier):
    for _ in range(5):
        verifier.verify(sign())
    assert issuer.asked == [ISSUER + "/.well-known/openid-configuration", "https://login.example.org/keys"]


def test_the_keys_may_have_an_address_of_their_own(issuer):
    make_verifier(issuer, jwks_url="https://elsewhere.example.org/keys").verify(sign())
    assert issuer.asked == ["https://elsewhere.example.org/keys"]


def test_a_new_key_of_the_issuer_is_fetched_but_not_for_every_guess(issuer, verifier, monkeypatch):
    verifier.verify(sign())
    issuer.keys.append(public("new", OTHER_RSA_KEY, RSAAlgorithm))
    now = time.monotonic()
    with pytest.raises(TokenRefused):
        verifier.verify(sign(OTHER_RSA_KEY, kid="new"))  # too soon after the last time
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 40)
    assert verifier.verify(sign(OTHER_RSA_KEY, kid="new"))
    asked = len(issuer.asked)
    for number in range(10):
        with pytest.raises(TokenRefused):
            verifier.verify(sign(kid=f"guess {number}"))
    assert len(issuer.asked) == asked


def test_an_issuer_that_is_down_locks_nobody_out_for_a_day(issuer, verifier, monkeypatch):
    verifier.verify(sign())
    issuer.failure = httpx.ConnectError("refused")
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 3600)
    assert verifier.verify(sign())
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 25 * 3600)
    with pytest.raises(IssuerUnreachable):
        verifier.verify(sign())


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_an_issuer_that_was_never_there_is_told_apart(issuer, verifier, failure):
    issuer.failure = failure
    with pytest.raises(IssuerUnreachable):
        verifier.verify(sign())


@pytest.mark.parametrize(
    "discovery", [{"issuer": "https://evil.example.org", "jwks_uri": "https://x.example"}, {"issuer": ISSUER}, [1]]
)
def test_a_discovery_document_of_someone_else_is_not_believed(issuer, verifier, discovery):
    issuer.discovery = discovery
    with pytest.raises(IssuerUnreachable):
        verifier.verify(sign())
