"""An OpenID Connect issuer for tests: its keys, its tokens, and a verifier that believes it."""

from __future__ import annotations

import time

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.auth.tokens import TokenVerifier

ISSUER = "https://login.example.org/realm"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def public(kid, private, algorithm, **more):
    document = algorithm.to_jwk(private.public_key(), as_dict=True)
    return document | {"kid": kid, "use": "sig"} | more


class Issuer:
    """Serves its discovery document and its keys, and counts how often it is asked."""

    def __init__(self):
        self.keys = [
            public("rsa", RSA_KEY, RSAAlgorithm, alg="RS256"),
            public("ec", EC_KEY, ECAlgorithm),
            {"kty": "quantum", "kid": "strange"},
            public("enc", OTHER_RSA_KEY, RSAAlgorithm) | {"use": "enc"},
        ]
        self.discovery = {"issuer": ISSUER, "jwks_uri": "https://login.example.org/keys"}
        self.asked = []
        self.failure = None

    def __call__(self, request):
        self.asked.append(str(request.url))
        if self.failure is not None:
            raise self.failure
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return httpx.Response(200, json=self.discovery)
        return httpx.Response(200, json={"keys": self.keys})


def make_verifier(issuer, **options):
    given = {
        "issuer": ISSUER,
        "audience": "placewright",
        "algorithms": ("RS256", "ES256"),
        "tenant_claim": "tenant",
        "scope_claim": "scope",
        "transport": httpx.MockTransport(issuer),
    }
    return TokenVerifier(**given | options)


def sign(key=RSA_KEY, algorithm="RS256", kid="rsa", **claims):
    now = int(time.time())
    given = {
        "iss": ISSUER,
        "aud": "placewright",
        "sub": "alice",
        "iat": now,
        "exp": now + 60,
        "tenant": "acme",
        "scope": "read write",
    }
    given = {name: value for name, value in (given | claims).items() if value is not None}
    return jwt.encode(given, key, algorithm, headers={"kid": kid} if kid else {})
