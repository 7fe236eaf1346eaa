"""Rendered manifests of Kubernetes, and what each of them must be, whatever the values."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer
import yaml

from inflight.cli import app
from inflight.settings import Settings

Manifest = Mapping[str, Any]
WORKLOADS = ("Deployment", "CronJob", "Job")
FOREIGN = re.compile(r"HOME|(OMP|OPENBLAS)_NUM_THREADS|AWS_\w+|GOOGLE_\w+|AZURE_\w+")
"""Variables of others that a container may have."""


class Pod(NamedTuple):
    """A pod's specification, with the object that it is of."""

    owner: Manifest
    metadata: Manifest
    spec: Manifest

    @property
    def name(self) -> str:
        return f"{self.owner['kind']} {self.owner['metadata']['name']}"

    @property
    def container(self) -> Manifest:
        """Each pod has one."""
        (container,) = self.spec["containers"]
        return container


def read(text: str) -> list[Manifest]:
    """The objects of a file. Raises if two keys of a mapping are the same."""
    return [found for found in yaml.load_all(text, Loader=_Strict) if found]


class _Strict(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice in a mapping: {sorted(map(str, keys))} {node.start_mark}"
        return super().construct_mapping(node, deep)


def pods(objects: Iterable[Manifest]) -> Iterator[Pod]:
    """The pods of all workloads."""
    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if found["kind"] in WORKLOADS:
            yield Pod(found, spec["template"]["metadata"], spec["template"]["spec"])


def of_kind(objects: Iterable[Manifest], kind: str) -> list[Manifest]:
    return [found for found in objects if found["kind"] == kind]


def commands() -> set[tuple[str, ...]]:
    """The commands of the product, as words."""
    root = typer.main.get_command(app)

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, (*words, name))

    return set(below(root, ()))


def settings() -> set[str]:
    """The variables that the product reads."""
    return {f"INFLIGHT_{name.upper()}" for name in Settings.model_fields}


def environment(container: Manifest) -> dict[str, str]:
    """Variables with their values; those from Secrets have none."""
    return {one["name"]: one.get("value", "") for one in container["env"]}


def problems(objects: list[Manifest]) -> list[str]:
    """What breaks a rule, with its object. Empty is well."""
    found: list[str] = []
    for pod in pods(objects):
        found += [f"{pod.name}: {problem}" for problem in (*_confinement(pod), *_program(pod), *_resources(pod))]
    return [*found, *_references(objects), *_selectors(objects)]


def _confinement(pod: Pod) -> Iterator[str]:
    """The level `restricted` of the pod security standards, a read-only root and no token."""
    spec, inner = pod.spec, pod.container["securityContext"]
    if not spec["securityContext"].get("runAsNonRoot") or spec["securityContext"].get("runAsUser", 0) < 10_000:
        yield "runs as root, or as a user of the node"
    if spec["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "no seccomp profile"
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    if not wanted.items() <= inner.items() or inner.get("privileged"):
        yield "may gain rights, or write its root"
    if spec.get("automountServiceAccountToken") is not False or spec["serviceAccountName"] == "default":
        yield "has a token of the API, or no account of its own"
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace with the node"
    if any("hostPath" in volume for volume in spec["volumes"]):
        yield "mounts a folder of the node"
    image = pod.container["image"]
    if image.endswith(":latest") or not ("@sha256:" in image or ":" in image.rsplit("/")[-1]):
        yield f"image {image} has no version"


def _program(pod: Pod) -> Iterator[str]:
    """Command, ports, probes and variables are those of the product."""
    container = pod.container
    words = tuple(word for word in container["args"] if not word.startswith("-"))
    if container["command"] != ["inflight"] or words not in commands():
        yield f"{' '.join((*container['command'], *container['args']))} is no command"
    variables = environment(container)
    for name in variables:
        if name not in settings() and not FOREIGN.fullmatch(name):
            yield f"{name} is no setting"
    if len(variables) != len(container["env"]):
        yield "a variable is given twice"
    if pod.owner["kind"] != "Deployment":
        return
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    if ports["metrics"] != Settings().metrics_ports.get(words[0]):
        yield f"port {ports['metrics']} is not that of its metrics"
    if variables.get(f"INFLIGHT_{words[0].upper().replace('-', '_')}_METRICS_PORT") != str(ports["metrics"]):
        yield "serves its metrics elsewhere"
    if words == ("gateway",) and ports.get("http") != int(variables["INFLIGHT_GATEWAY_PORT"]):
        yield "listens elsewhere"
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "metrics"}:
            yield f"no {probe}"


def _resources(pod: Pod) -> Iterator[str]:
    resources = pod.container["resources"]
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= resources.get(kind, {}).keys():
            yield f"no {kind}"
    for volume in pod.spec["volumes"]:
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} has no limit"


def _references(objects: list[Manifest]) -> Iterator[str]:
    """What is referred to is there; Secrets alone are the user's. No manifest holds one."""
    named = {(found["kind"], found["metadata"]["name"]) for found in objects}
    if len(named) != len(objects):
        yield "two objects have one name"
    if any(kind == "Secret" for kind, _ in named):
        yield "a Secret in the manifests"
    for pod in pods(objects):
        mounted = {one["name"] for one in pod.container["volumeMounts"]}
        if mounted != {one["name"] for one in pod.spec["volumes"]}:
            yield f"{pod.name}: volumes and mounts differ"
        if ("ServiceAccount", pod.spec["serviceAccountName"]) not in named:
            yield f"{pod.name}: no such service account"
        for volume in pod.spec["volumes"]:
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in named:
                yield f"{pod.name}: no such ConfigMap"


def _selectors(objects: list[Manifest]) -> Iterator[str]:
    """Services, budgets and policies select pods; Deployments their own, and no others."""
    labels = {pod.name: pod.metadata["labels"] for pod in pods(objects)}
    for found in objects:
        if found["kind"] not in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
            continue
        selector = found["spec"].get("selector") or found["spec"]["podSelector"]
        selector = selector.get("matchLabels", selector)
        selected = {name for name, labels in labels.items() if selector.items() <= labels.items()}
        if found["kind"] == "Deployment" and selected != {f"Deployment {found['metadata']['name']}"}:
            yield f"Deployment {found['metadata']['name']} selects {selected}"
        if not selected:
            yield f"{found['kind']} {found['metadata']['name']} selects no pod"


def exported_metrics() -> set[str]:
    """The metrics that docs/metrics.md lists; a test of its own compares the page with the code."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    return set(re.findall(r"(?m)^\| `(inflight_\w+)`", text))
