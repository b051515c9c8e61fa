"""Settings that make no sense are refused at the start, with what to do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.settings import Settings

ISSUER = {"authentication": "on", "oidc_issuer": "https://login.example.org", "oidc_audience": "placewright"}


def test_sound_settings_are_taken(monkeypatch):
    monkeypatch.setenv("PLACEWRIGHT_OIDC_ALGORITHMS", "ES256, EdDSA")
    settings = Settings(**ISSUER)
    assert settings.oidc_algorithms == {"ES256", "EdDSA"}
    assert Settings().authentication == "off"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"authentication": "perhaps"}, "'off' or 'on'"),
        ({"oidc_issuer": "http://login.example.org"}, "should match pattern"),
        ({"oidc_jwks_url": "file:///etc/passwd"}, "should match pattern"),
        ({"oidc_issuer": ISSUER["oidc_issuer"], "authentication": "on"}, "oidc_audience is needed"),
        (ISSUER | {"authentication": "off"}, "means nothing while authentication is off"),
        ({"oidc_algorithms": "HS256"}, "oidc_algorithms must be some of"),
        ({"oidc_algorithms": "RS256,none"}, "oidc_algorithms must be some of"),
        ({"oidc_algorithms": ""}, "oidc_algorithms must be some of"),
        ({"requests_per_minute": 0}, "greater than or equal to 1"),
        ({"cpu_seconds_per_day": 0}, "greater than 0"),
    ],
)
def test_others_are_not(settings, words):
    with pytest.raises(ValidationError, match=words):
        Settings(**settings)


def test_tokens_need_their_package(monkeypatch):
    monkeypatch.setattr("app.auth.settings.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"pip install 'placewright\[oidc\]'"):
        Settings(**ISSUER)
    assert Settings()
