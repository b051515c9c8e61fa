"""The compose file follows the specification, and runs what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from app.commands import _parser
from app.settings import Settings

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
OURS = {"migrate", "api", "dispatcher"}


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(FILE.read_text())["services"]


def parse(text):
    return PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))  # with YAML's merge keys resolved


def test_the_specification_knows_every_field():
    project = parse(FILE.read_text())
    project.validate()
    assert set(project.service_names()) == OURS | {"database"}


def test_the_check_finds_a_mistyped_field():
    with pytest.raises(ValueError, match="healthchek"):
        parse(FILE.read_text().replace("healthcheck:", "healthchek:"))


def test_commands_and_settings_are_those_of_the_service(services):
    for name in OURS:
        _parser().parse_args(services[name]["command"])  # exits when it does not know them
        environment = {key.removeprefix("PLACEWRIGHT_").lower() for key in services[name]["environment"]}
        assert environment <= set(Settings.model_fields), name


def test_containers_are_confined(services):
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["tmpfs"]
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_nothing_is_open_to_other_machines(services):
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:8000:8000"]}
    assert services["database"]["networks"] == ["database"]
    assert services["api"]["environment"]["PLACEWRIGHT_AUTHENTICATION"] == "${PLACEWRIGHT_AUTHENTICATION:-on}"


def test_nothing_starts_before_the_database_is_ready(services):
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    for name in ("api", "dispatcher"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
