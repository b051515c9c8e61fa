"""The documentation of the API: right, and there without a network."""

from __future__ import annotations

import re

import pytest

from app.openapi import read_example
from app.schemas import Problem


def test_the_pages_load_nothing_from_elsewhere(client):
    page = client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert "//" not in re.sub(r"//\s*$|<!--.*?-->", "", page.text)
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 3
    for link in links:
        answer = client.get(link)
        assert answer.status_code == 200, link
        assert answer.content
    assert "SwaggerUIBundle" in client.get(links[2]).text


def test_every_reference_leads_somewhere(client):
    answer = client.get("/openapi.json")
    document = answer.json()
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text))
    assert references
    assert references <= set(document["components"]["schemas"])
    assert {"/placements", "/placements/{placement_id}", "/livez", "/readyz"} <= set(document["paths"])
    assert document["components"]["schemas"]["RequestDocument"]["additionalProperties"] is False
    assert "HTTPValidationError" not in answer.text


def test_every_error_is_documented_as_a_problem_of_that_status(client):
    paths = client.get("/openapi.json").json()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    errors = [error for o in operations for error in o["responses"].items() if int(error[0]) >= 400]
    assert len(errors) > 5
    for status, response in errors:
        [(media_type, content)] = response["content"].items()
        assert media_type == "application/problem+json"
        assert Problem.model_validate(content["example"]).status == int(status)


@pytest.mark.parametrize("name", ["tiny", "transformer"])
def test_the_examples_work_when_pasted(client, name):
    body = client.get("/openapi.json").json()["paths"]["/placements"]["post"]["requestBody"]
    example = body["content"]["application/json"]["examples"][name]["value"]
    assert example == read_example(name)
    answer = client.post("/placements", json=example)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "succeeded"
    assert set(answer.json()["result"]["placement"]) == {o["id"] for o in example["graph"]["operators"]}
