"""The chart gives objects that Kubernetes takes, that fit together, and that run what there is."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.commands import _parser
from app.settings import Settings

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "placewright"
OLDEST = re.search(r">=(\d+\.\d+)", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])[1]
NEWEST = kubernetes_validate.latest_version()
EVERYTHING = {
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "auth": {
        "firstKey": {"secretName": "first"},
        "oidc": {"issuer": "https://login.example.org", "audience": "placewright"},
    },
    "settings": {"MAX_TIME_LIMIT_S": "600"},
    "secretSettings": {"WEBHOOK_SECRET": {"secretName": "webhooks", "secretKey": "secret"}},
    "api": {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "podAnnotations": {"a": "b"}},
    "dispatcher": {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "podAnnotations": {"a": "b"}},
    "service": {"annotations": {"a": "b"}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "host": "placewright.example.org",
        "tlsSecretName": "tls",
        "annotations": {"a": "b"},
    },
    "networkPolicy": {
        "apiFrom": [{"podSelector": {}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "databaseTo": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
    },
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "key": {"secretName": "metrics"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
}
LITTLE = {
    "api": {"autoscaling": {"enabled": False}},
    "auth": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
RELEASES = {
    "defaults": {},
    "everything": EVERYTHING,
    "little": LITTLE,
    "ray": {"dispatcher": {"engine": "ray"}},
    "everything on ray": EVERYTHING | {"dispatcher": {"engine": "ray"}},
}

TEXT, TEXTS = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}


def record(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


# Kubernetes itself has no schema for these; the fields used here, from the references of KubeRay 1.6 and of the
# Prometheus operator 0.80. Pod templates in them are checked as pod templates.
GROUP = {
    "rayStartParams": TEXTS,
    "template": {"type": "object"},
}
CUSTOM = {
    "RayCluster": record(
        ["rayVersion", "headGroupSpec"],
        rayVersion=TEXT,
        authOptions=record(["mode"], mode={"enum": ["disabled", "token"]}),
        headGroupSpec=record(["template"], **GROUP),
        workerGroupSpecs={
            "type": "array",
            "items": record(
                ["groupName", "minReplicas", "maxReplicas", "template"],
                groupName=TEXT,
                replicas={"type": "integer"},
                minReplicas={"type": "integer"},
                maxReplicas={"type": "integer"},
                **GROUP,
            ),
        },
    ),
    "ServiceMonitor": record(
        ["selector", "endpoints"],
        selector=record(["matchLabels"], matchLabels=TEXTS),
        endpoints={
            "type": "array",
            "items": record(
                ["port"],
                port=TEXT,
                path=TEXT,
                interval=TEXT,
                authorization=record(
                    ["credentials"], type=TEXT, credentials=record(["name", "key"], name=TEXT, key=TEXT)
                ),
            ),
        },
    ),
    "PrometheusRule": record(
        ["groups"],
        groups={
            "type": "array",
            "items": record(
                ["name", "rules"],
                name=TEXT,
                rules={
                    "type": "array",
                    "items": record(
                        ["alert", "expr", "for", "labels", "annotations"],
                        alert=TEXT,
                        expr=TEXT,
                        **{"for": {"type": "string", "pattern": r"^\d+[smh]$"}},
                        labels=TEXTS,
                        annotations=TEXTS,
                    ),
                },
            ),
        },
    ),
}


@pytest.fixture(params=RELEASES)
def objects(request, render):
    return render(RELEASES[request.param])


def of_kind(objects, *kinds):
    return [thing for thing in objects if thing["kind"] in kinds]


def templates(objects):
    """Every pod template with a name for messages."""
    for thing in of_kind(objects, "Deployment", "Job"):
        yield thing["metadata"]["name"], thing["spec"]["template"]
    for thing in of_kind(objects, "RayCluster"):
        yield thing["metadata"]["name"] + " head", thing["spec"]["headGroupSpec"]["template"]
        for group in thing["spec"]["workerGroupSpecs"]:
            yield f"{thing['metadata']['name']} {group['groupName']}", group["template"]


def containers(objects):
    for name, template in templates(objects):
        for container in template["spec"].get("initContainers", []) + template["spec"]["containers"]:
            yield f"{name}/{container['name']}", container, template["spec"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(objects, version):
    for thing in objects:
        schema = CUSTOM.get(thing["kind"])
        if schema is None:
            kubernetes_validate.validate(thing, version, strict=True)
        else:
            assert set(thing) == {"apiVersion", "kind", "metadata", "spec"}
            jsonschema.validate(thing["spec"], schema)
    for name, template in templates(objects):
        wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(wrapped, version, strict=True)
        assert name


def test_the_check_finds_a_mistyped_field(render):
    [deployment] = [d for d in of_kind(render(), "Deployment") if d["metadata"]["name"].endswith("api")]
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@pytest.mark.parametrize("values", RELEASES.values(), ids=RELEASES)
def test_helm_has_nothing_to_say_against_it(values):
    report = helm_python.lint(CHART, values, strict=True)
    assert not report["errors"]
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


def test_no_two_objects_have_one_name(objects):
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in objects]
    assert len(names) == len(set(names))


def test_two_releases_share_nothing(render):
    first, second = ({(t["kind"], t["metadata"]["name"]) for t in render(EVERYTHING, name)} for name in ("a", "b"))
    assert not first & second


def test_every_container_is_confined(objects):
    found = 0
    for name, container, pod in containers(objects):
        found += 1
        security = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 10001, name  # the user of the image
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert security == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp", "/var/cache/placewright"}, name
        assert {mount["name"] for mount in container["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}, name
        assert all(set(v) - {"name"} <= {"emptyDir", "secret"} for v in pod["volumes"]), name
    assert found >= 3


def test_every_container_has_bounds(objects):
    for name, container, _ in containers(objects):
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}, name
        assert "memory" in resources["limits"], name


def test_solves_have_whole_cores_to_themselves(render):
    by_name = {name: container for name, container, _ in containers(render())}
    resources = by_name["demo-placewright-dispatcher/dispatcher"]["resources"]
    assert resources["requests"] == resources["limits"]  # what the dispatcher counts is what it has


def test_images_are_pinned(objects):
    for name, container, _ in containers(objects):
        assert re.search(r"(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$", container["image"]), name


def test_commands_are_those_of_the_command_line(objects):
    commands = set()
    for _, container, _ in containers(objects):
        if "args" in container:
            _parser().parse_args(container["args"])  # exits when it does not know them
            commands.add(container["args"][0])
    assert {"serve", "dispatch", "migrate"} <= commands


def test_settings_are_those_of_the_service(objects):
    names = {entry["name"] for _, container, _ in containers(objects) for entry in container.get("env", [])}
    ours = {name.removeprefix("PLACEWRIGHT_").lower() for name in names if name.startswith("PLACEWRIGHT_")}
    assert ours
    assert ours <= set(Settings.model_fields)


def test_probes_are_routes_of_the_service(render):
    parts = [container for name, container, _ in containers(render()) if "migration" not in name]
    assert len(parts) == 2
    for container in parts:
        paths = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        assert paths == ["/livez", "/livez", "/readyz"]
        [port] = container["ports"]
        assert container["livenessProbe"]["httpGet"]["port"] == port["name"]
        assert str(port["containerPort"]) == container["args"][container["args"].index("--port") + 1]


def test_selectors_find_their_pods(objects):
    pods = [template["metadata"]["labels"] for _, template in templates(objects)]

    def count(selector):
        return sum(selector.items() <= labels.items() for labels in pods)

    for thing in of_kind(objects, "Deployment", "PodDisruptionBudget"):
        assert count(thing["spec"]["selector"]["matchLabels"]) == 1, thing["metadata"]["name"]
    for thing in of_kind(objects, "Service"):
        assert count(thing["spec"]["selector"]) == 1
    for thing in of_kind(objects, "NetworkPolicy"):
        selector = thing["spec"]["podSelector"]["matchLabels"]
        assert count(selector) == 1 or "ray.io/cluster" in selector  # a label that the operator sets
    for _, template in templates(objects):
        for constraint in template["spec"].get("topologySpreadConstraints", []):
            assert count(constraint["labelSelector"]["matchLabels"]) == 1


def test_references_lead_somewhere(objects):
    names = {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}
    for thing in of_kind(objects, "HorizontalPodAutoscaler"):
        target = thing["spec"]["scaleTargetRef"]
        assert "replicas" not in names[target["kind"], target["name"]]["spec"]  # or each upgrade would reset them
    for thing in of_kind(objects, "Ingress"):
        backend = thing["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        ports = names["Service", backend["name"]]["spec"]["ports"]
        assert backend["port"]["name"] in {port["name"] for port in ports}
    for name, template in templates(objects):
        account = template["spec"].get("serviceAccountName")
        assert account is None or ("ServiceAccount", account) in names, name
    for thing in of_kind(objects, "ServiceMonitor"):
        wanted = thing["spec"]["selector"]["matchLabels"]
        [service] = [s for s in of_kind(objects, "Service") if wanted.items() <= s["metadata"]["labels"].items()]
        assert {e["port"] for e in thing["spec"]["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_every_pod_is_behind_a_network_policy(render, engine):
    objects = render({"dispatcher": {"engine": engine}})
    covered = [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind(objects, "NetworkPolicy")]
    for policy in of_kind(objects, "NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for name, template in templates(objects):
        labels = template["metadata"]["labels"]
        if labels["app.kubernetes.io/component"] == "ray":
            labels = {"ray.io/cluster": "demo-placewright-ray"}  # set by the operator
        assert any(selector.items() <= labels.items() for selector in covered), name


def test_the_ray_cluster_is_of_the_version_in_the_image():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lock = (CHART.parents[2] / "requirements-ray.lock").read_text()
    assert re.search(r"^ray==(\S+)", lock, re.MULTILINE)[1] == values["ray"]["version"]


def test_ray_takes_work_from_dispatchers_only(render):
    objects = {(t["kind"], t["metadata"]["name"]): t for t in render({"dispatcher": {"engine": "ray"}})}
    cluster = objects["RayCluster", "demo-placewright-ray"]["spec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    sources = objects["NetworkPolicy", "demo-placewright-ray"]["spec"]["ingress"][0]["from"]
    assert [source["podSelector"]["matchLabels"].get("app.kubernetes.io/component") for source in sources] == [
        None,
        "dispatcher",
    ]
    pod = objects["Deployment", "demo-placewright-dispatcher"]["spec"]["template"]["spec"]
    dispatcher, node = pod["containers"]
    environment = {entry["name"]: entry for entry in dispatcher["env"]}
    assert environment["PLACEWRIGHT_RAY_ADDRESS"]["value"] == "demo-placewright-ray-head-svc:6379"
    assert "--address=demo-placewright-ray-head-svc:6379" in node["command"]
    assert "--num-cpus=0" in node["command"]
    for container in (dispatcher, node):
        token = {entry["name"]: entry for entry in container["env"]}["RAY_AUTH_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"] == {"name": "demo-placewright-ray", "key": "auth_token"}


def test_the_database_is_migrated_before_anything_new_runs(render):
    [job] = of_kind(render(EVERYTHING), "Job")
    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert [c["args"][0] for c in pod["initContainers"] + pod["containers"]] == ["migrate", "keys"]
    # hooks run before the release's other objects are there
    assert "serviceAccountName" not in pod


def test_only_dispatchers_run_jobs(render):
    objects = render(EVERYTHING)
    settings = {
        name: {entry["name"]: entry.get("value") for entry in container["env"]}
        for name, container, _ in containers(objects)
    }
    assert settings["demo-placewright-api/api"]["PLACEWRIGHT_RUN_DISPATCHER"] == "false"
    assert "PLACEWRIGHT_RUN_DISPATCHER" not in settings["demo-placewright-dispatcher/dispatcher"]


def test_no_secret_stands_in_the_objects(objects):
    assert not of_kind(objects, "Secret")
    text = json.dumps(objects)
    assert "postgresql://" not in text
    assert "pw_" not in text


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 3},
        {"api": {"replica": 3}},
        {"api": {"replicas": 0}},
        {"dispatcher": {"engine": "celery"}},
        {"image": {"digest": "latest"}},
        {"settings": {"max_time_limit_s": "600"}},
        {"settings": {"MAX_TIME_LIMIT_S": 600}},
        {"secretSettings": {"WEBHOOK_SECRET": "whsec_plain"}},
        {"auth": {"enabled": "yes"}},
        {"auth": {"oidc": {"issuer": "http://plain.example.org"}}},
        {"networkPolicy": {"egressPorts": [0]}},
    ],
    ids=json.dumps,
)
def test_values_that_mean_nothing_are_refused(render, values):
    with pytest.raises(helm_python.HelmError):
        render(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ingress": {"enabled": True}}, "ingress.host is needed"),
        ({"auth": {"oidc": {"issuer": "https://a.example"}}}, "auth.oidc.audience is needed"),
    ],
)
def test_what_is_missing_is_said(render, values, words):
    with pytest.raises(helm_python.HelmError, match=words):
        render(values)


def test_the_schema_knows_every_value_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part, described, path):
        assert set(part) == set(described["properties"]) - {"global"}, path
        for name, value in part.items():
            if "properties" in described["properties"][name] and name != "resources":
                compare(value, described["properties"][name], f"{path}.{name}")

    compare(values, schema, "")


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version("placewright")
