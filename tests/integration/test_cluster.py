"""The chart on a real API server: strict fields, the schemas of custom resources, admission, and Helm's whole way."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.generate import CHART, PLAIN
from deploy.schemas import definitions_of_custom_resources
from tests.support import manifests
from tests.support.kube_server import KubeServer, kube_server
from tests.support.tools import run, tool
from tests.support.waiting import until

VALUES = sorted((CHART.parent / "tests" / "values").glob("*.yaml"))
EXAMPLES = CHART.parent / "examples"
SHOP = "shop"
LEVEL = "pod-security.kubernetes.io"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with kube_server(tmp_path_factory.mktemp("cluster")) as server:
        crds = definitions_of_custom_resources()
        for crd in crds:
            answer = server.apply(crd)
            assert answer.status in (200, 201), answer.body
        until(lambda: not _missing(server, crds), 60, "the custom resources are served")
        for name in ("inflight", SHOP, "kafka", "search"):
            labels = {f"{LEVEL}/enforce": "restricted", f"{LEVEL}/warn": "restricted"}
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            assert server.apply(space).status == 201
        until(lambda: server.call("GET", "/api/v1/namespaces/inflight").status == 200, 60, "the namespace is there")
        yield server


def _missing(server: KubeServer, crds: list[manifests.Manifest]) -> list[str]:
    """Custom resources that the server does not serve yet."""
    found = []
    for crd in crds:
        spec = crd["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        if server.call("GET", path).status != 200:
            found.append(path)
    return found


def rendered(values: Path) -> list[manifests.Manifest]:
    helm = tool("helm", "chart")
    return manifests.read(run(helm, "template", "inflight", CHART, "--namespace", "inflight", "--values", values))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_server_takes_every_object_and_would_admit_every_pod(cluster: KubeServer, values: Path) -> None:
    """With strict fields and without a warning; pods under the level `restricted`."""
    objects = rendered(values)
    for found in objects:
        answer = cluster.apply(found, "&dryRun=All")
        assert answer.status in (200, 201), (found["kind"], found["metadata"]["name"], answer.body)
        assert answer.warnings == [], (found["kind"], found["metadata"]["name"])
    for account in manifests.of_kind(objects, "ServiceAccount"):
        assert cluster.apply(account).status in (200, 201)
    for pod in manifests.pods(objects):
        # What the Deployment's controller would create. The class is the cluster's.
        spec = {key: value for key, value in pod.spec.items() if key != "priorityClassName"}
        body = {"apiVersion": "v1", "kind": "Pod", "spec": spec}
        body["metadata"] = {"name": "one", "namespace": "inflight", "labels": pod.metadata["labels"]}
        answer = cluster.call("POST", "/api/v1/namespaces/inflight/pods?dryRun=All&fieldValidation=Strict", body)
        assert answer.status == 201, (pod.name, answer.body.get("message"))


def test_a_pod_with_more_rights_is_refused(cluster: KubeServer) -> None:
    """So the test above can fail: admission works on this server."""
    (pod, *_) = manifests.pods(rendered(VALUES[0]))
    spec = json.loads(json.dumps(pod.spec))
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    for account in manifests.of_kind(rendered(VALUES[0]), "ServiceAccount"):
        assert cluster.apply(account).status in (200, 201)
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
    answer = cluster.call("POST", "/api/v1/namespaces/inflight/pods?dryRun=All", body)
    assert answer.status == 403
    assert "allowPrivilegeEscalation" in answer.body["message"]


def test_a_wrong_field_is_refused(cluster: KubeServer) -> None:
    scaled = next(found for found in rendered(_values("everything")) if found["kind"] == "ScaledObject")
    for spec, message in (({"maxReplicas": 3}, "maxReplicas"), ({"maxReplicaCount": "many"}, "expected numeric")):
        wrong = {**scaled, "spec": {**scaled["spec"], **spec}}
        answer = cluster.apply(wrong, "&dryRun=All")
        assert answer.status >= 400
        assert message in answer.body["message"]


FILES = [PLAIN / "inflight.yaml", *sorted(EXAMPLES.glob("*.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_plain_manifest_and_the_examples_are_taken(cluster: KubeServer, file: Path) -> None:
    served = {crd["spec"]["group"] for crd in definitions_of_custom_resources()}
    for found in manifests.read(file.read_text()):
        group = found["apiVersion"].partition("/")[0]
        if "." in group and not group.endswith("k8s.io") and group not in served:
            assert group == "kafka.strimzi.io", group
            continue
        answer = cluster.apply(found, "&dryRun=All")
        assert answer.status in (200, 201), (found["kind"], answer.body)


def test_install_upgrade_roll_back_uninstall(cluster: KubeServer) -> None:
    """Helm's way on the server. Hooks are jobs, and nothing runs here: they are left out."""
    helm = tool("helm", "chart")
    common = ("--namespace", SHOP, "--kubeconfig", cluster.kubeconfig)
    path = f"/apis/apps/v1/namespaces/{SHOP}/deployments"

    def deployments() -> dict[str, int]:
        items = cluster.call("GET", path).body["items"]
        return {item["metadata"]["name"]: item["spec"]["replicas"] for item in items}

    everything = _values("everything")
    run(helm, "install", "inflight", CHART, *common, "--values", _values("production"), "--no-hooks")
    first = deployments()
    assert first["inflight-worker"] == 2
    assert "inflight-archive" not in first
    run(helm, "upgrade", "inflight", CHART, *common, "--values", everything, "--no-hooks")
    assert set(deployments()) > set(first)
    assert deployments()["inflight-gateway"] == 3
    scaled = f"/apis/keda.sh/v1alpha1/namespaces/{SHOP}/scaledobjects/inflight-worker"
    assert cluster.call("GET", scaled).body["spec"]["maxReplicaCount"] == 24
    # KEDA's decision survives an upgrade: the chart does not set the number.
    cluster.call("PATCH", f"{path}/inflight-worker?fieldManager=keda&force=true", _replicas(7))
    debug = ("--set", "settings.INFLIGHT_LOG_LEVEL=debug")
    run(helm, "upgrade", "inflight", CHART, *common, "--values", everything, "--no-hooks", *debug)
    assert deployments()["inflight-worker"] == 7
    # The number is the autoscaler's by now: whoever takes it back has to say so.
    run(helm, "rollback", "inflight", "1", *common, "--no-hooks", "--force-conflicts")
    assert set(deployments()) == set(first)
    run(helm, "uninstall", "inflight", *common, "--no-hooks")
    assert deployments() == {}


def test_a_wrong_value_is_refused_before_the_cluster_is_asked() -> None:
    helm = tool("helm", "chart")
    command = [helm, "template", "x", str(CHART), "--values", str(_values("production")), "--set"]
    for value, message in (
        ("processes.worker.replicas=99", "there are 12 partitions"),
        ("kafka.options.existingSecret=", "production is true"),
        ("gateway.keys.existingSecret=", "needs API keys"),
        ("elasticsearch.url=", "needs Elasticsearch"),
        ("registry.url=", "needs the registry"),
        ("autoscaling.enabled=true,autoscaling.maxReplicas=13", "there are 12 partitions"),
        ("processes.archive.enabled=true", "needs a database"),
        ("procesess.worker.replicas=2", "procesess"),
        ("settings.LOG_LEVEL=debug", "LOG_LEVEL"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("kafka.partitions=0", "partitions"),
    ):
        result = subprocess.run([*command, value], capture_output=True, text=True)
        assert result.returncode != 0, value
        assert message in result.stderr, (value, result.stderr)


def _replicas(count: int) -> manifests.Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "inflight-worker", "namespace": SHOP},
        "spec": {"replicas": count},
    }


def _values(name: str) -> Path:
    return next(path for path in VALUES if path.stem.endswith(name))
