"""The chart for Kubernetes, rendered by Helm's own engine and held against the schemas of Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import hanse
from hanse.container import starts
from hanse.coordinator.settings import CoordinatorSettings
from tests.test_container import TOKEN

pytestmark = pytest.mark.containers
CHART = Path(__file__).parents[2] / "deploy" / "helm" / "hanse"
ALL = {
    "image": {"registry": "registry.example.org/hospital", "pullSecrets": ["pull"]},
    "coordinator": {
        "hostNames": ["coordinator.example.org"],
        "service": {"type": "LoadBalancer", "annotations": {"example.org/a": "b"}},
        "env": {"MIN_CLIENTS": "2", "MAX_ROUNDS": "50"},
        "secretEnv": {"HANSE_DATABASE": {"name": "database", "key": "url"}},
        "storage": {"storageClass": "fast"},
    },
    "policyEngine": {
        "enabled": True,
        "tlsSecret": "policy-tls",
        "tokenSecret": "policy-token",
        "policies": {"own.cedar": '@id("a")\npermit (principal, action, resource);\n'},
    },
    "nodes": [
        {"name": "client-1", "joinSecret": "client-1-join", "dataClaim": "client-1-data", "storage": {"size": "7Gi"}},
        {"name": "client-2", "env": {"HTTPS_PROXY": "http://proxy:3128"}, "resources": {"limits": {"cpu": "4"}}},
    ],
    "networkPolicy": {
        "coordinatorFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "coordinatorTo": [{"ports": [{"port": 5432}]}],
        "nodesTo": [{"ports": [{"port": 3128}]}],
    },
}


def rendered(values: Any) -> dict[str, Any]:
    program = [Path(os.environ["HANSE_CONTAINERS"]) / "python", Path(__file__).with_name("rendered.py"), CHART, "fed"]
    done = subprocess.run(program, input=json.dumps(values), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], Any]:
    found = rendered(ALL)
    assert found["errors"] == []
    return {(one["kind"], one["metadata"]["name"]): one for one in found["objects"]}


def pods(objects: dict[tuple[str, str], Any]) -> Iterator[tuple[str, Any]]:
    for (kind, name), one in objects.items():
        if kind == "StatefulSet":
            yield name, one["spec"]["template"]["spec"]


def test_it_has_the_version_of_this_release() -> None:
    found = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert found["version"] == found["appVersion"] == hanse.__version__


def test_what_there_is(objects: dict[tuple[str, str], Any]) -> None:
    parts = ("coordinator", "policy-engine", "client-1", "client-2")
    assert {name for kind, name in objects if kind == "StatefulSet"} == {f"fed-{part}" for part in parts}
    assert {name for kind, name in objects if kind == "Service"} == {"fed-coordinator", "fed-policy-engine"}
    assert {name for kind, name in objects if kind == "NetworkPolicy"} == {"fed-coordinator", "fed-policy", "fed-node"}
    least = rendered({})
    assert least["errors"] == []
    assert [one["kind"] for one in least["objects"]] == ["Service", "StatefulSet", "NetworkPolicy"]


def test_no_pod_has_more_than_it_needs(objects: dict[tuple[str, str], Any]) -> None:
    """The restricted profile of the Pod Security Standards, a read-only root, and no token of a service account."""
    for name, pod in pods(objects):
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & {*pod}
        own = pod["securityContext"]
        assert (own["runAsNonRoot"], own["runAsUser"], own["fsGroup"]) == (True, 10001, 10001)
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"].get("limits", {}) or name == "fed-client-2"
        assert all("hostPath" not in volume for volume in pod["volumes"])
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/var/lib/hanse", "/tmp"}


def test_probes_ask_what_each_is_for(objects: dict[tuple[str, str], Any]) -> None:
    """A coordinator that is not ready gets no requests, and is not restarted for a full disk; a node is asked as its
    owner asks it."""
    found = {name: pod["containers"][0] for name, pod in pods(objects)}
    for name, ready in (("fed-coordinator", "/ready"), ("fed-policy-engine", "/health")):
        asked = {probe: found[name][probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert all((it["scheme"], it["port"]) == ("HTTPS", "https") for it in asked.values())
        assert [it["path"] for it in asked.values()] == ["/health", "/health", ready]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert found["fed-client-1"][probe]["exec"]["command"] == ["hanse", "container", "healthy"]


def variables(pod: Any) -> dict[str, str]:
    """As a container gets them; what a secret holds is a join token."""
    return {one["name"]: one.get("value", TOKEN.encode()) for one in pod["containers"][0]["env"]}


def test_a_container_starts_with_its_variables(objects: dict[tuple[str, str], Any]) -> None:
    """And each service finds the other by its name."""
    found = {name: variables(pod) for name, pod in pods(objects)}
    it = starts({"SERVICE_TYPE": "fl-server", **found["fed-coordinator"]})
    assert (it.command, it.said) == (("coordinator", "start"), ())
    assert it.environment["HANSE_HOST_NAME"] == "coordinator.example.org fed-coordinator"
    engine = CoordinatorSettings.read([], {**found["fed-coordinator"], **it.environment, "POLICY_ENGINE_CA": ""})
    assert engine.policy_engine is not None
    assert engine.policy_engine.service.url == "https://fed-policy-engine:5000"
    node = starts({"SERVICE_TYPE": "fl-client", **found["fed-client-1"]})
    assert (node.before[0][4:], node.said) == (("--name", "client-1", "--address", "grpc://fed-coordinator:8081"), ())
    assert starts({"SERVICE_TYPE": "policy-engine", **found["fed-policy-engine"]}).said == ()
    images = {pod["containers"][0]["image"] for _, pod in pods(objects)}
    assert images == {
        f"registry.example.org/hospital/hanse/{part}:{hanse.__version__}" for part in ("coordinator", "policy", "node")
    }


def test_services_and_policies_select_the_pods_that_they_mean(objects: dict[tuple[str, str], Any]) -> None:
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for (kind, name), one in objects.items()
        if kind == "StatefulSet"
    }

    def selected(wanted: dict[str, str]) -> set[str]:
        return {name for name, own in labels.items() if wanted.items() <= own.items()}

    assert selected(objects["Service", "fed-coordinator"]["spec"]["selector"]) == {"fed-coordinator"}
    assert selected(objects["Service", "fed-policy-engine"]["spec"]["selector"]) == {"fed-policy-engine"}
    nodes = {"fed-client-1", "fed-client-2"}
    for part, which in (("coordinator", {"fed-coordinator"}), ("policy", {"fed-policy-engine"}), ("node", nodes)):
        spec = objects["NetworkPolicy", f"fed-{part}"]["spec"]
        assert selected(spec["podSelector"]["matchLabels"]) == which
        assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_nobody_calls_a_node_and_it_calls_the_coordinator_alone(objects: dict[tuple[str, str], Any]) -> None:
    spec = objects["NetworkPolicy", "fed-node"]["spec"]
    assert "ingress" not in spec
    names, coordinator, own = spec["egress"]
    assert {entry["port"] for entry in names["ports"]} == {53}
    assert coordinator["to"][0]["podSelector"]["matchLabels"]["hanse/part"] == "coordinator"
    assert {entry["port"] for entry in coordinator["ports"]} == {8080, 8081}
    assert own == {"ports": [{"port": 3128}]}
    engine = objects["NetworkPolicy", "fed-policy"]["spec"]
    assert "egress" not in engine
    assert engine["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["hanse/part"] == "coordinator"
    allowed = objects["NetworkPolicy", "fed-coordinator"]["spec"]["ingress"][0]
    assert allowed["from"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]


def test_what_is_kept_is_on_claims(objects: dict[tuple[str, str], Any]) -> None:
    claims = {
        name: one["spec"]["volumeClaimTemplates"][0]["spec"]
        for (kind, name), one in objects.items()
        if kind == "StatefulSet"
    }
    sizes = {name: spec["resources"]["requests"]["storage"] for name, spec in claims.items()}
    assert sizes == {
        "fed-coordinator": "20Gi",
        "fed-policy-engine": "1Gi",
        "fed-client-1": "7Gi",
        "fed-client-2": "5Gi",
    }
    assert claims["fed-coordinator"]["storageClassName"] == "fast"
    assert "storageClassName" not in claims["fed-client-1"]  # the cluster's own


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"policyEngine": {"enabled": True, "tokenSecret": "t"}}, "policyEngine.tlsSecret is not set"),
        ({"policyEngine": {"enabled": True, "tlsSecret": "t"}}, "policyEngine.tokenSecret is not set"),
        ({"nodes": [{"name": "a"}], "coordinator": {"enabled": False}}, "nodeDefaults.serverHost is not set"),
        ({"coordinatr": {}}, "coordinatr"),
        ({"nodes": [{"name": "Client 1"}]}, "does not match pattern"),
        ({"coordinator": {"env": {"MIN_CLIENTS": 2}}}, "string"),
    ],
)
def test_what_cannot_be_is_said(values: Any, said: str) -> None:
    assert said in "\n".join(rendered(values)["errors"])
