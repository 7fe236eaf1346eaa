"""Schemas of Kubernetes and of custom resources, from the modules that `deploy/tools/crds` pins by digest.

python -m deploy.schemas FOLDER      # for kubeconform -schema-location 'FOLDER/{{.ResourceKind}}{{.KindSuffix}}.json'
"""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

MODULE = Path(__file__).parent / "tools" / "crds"
_FOLDERS = {
    "github.com/elastic/cloud-on-k8s/v3": ("config/crds/v1/all-crds.yaml",),
    "github.com/kedacore/keda/v2": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
    "github.com/prometheus-operator/prometheus-operator": tuple(
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        for kind in ("servicemonitors", "prometheusrules", "podmonitors")
    ),
}
_ECK = ("elasticsearches.elasticsearch.k8s.elastic.co", "kibanas.kibana.k8s.elastic.co")
Schema = dict[str, Any]


@lru_cache(maxsize=1)
def modules() -> dict[str, Path]:
    """Folder of each module. It is downloaded on first use, and compared with its digest."""
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    names = [*_FOLDERS, "k8s.io/kubernetes"]
    result = subprocess.run(
        ["go", "mod", "download", "-json", *names], cwd=MODULE, env=environment, capture_output=True, check=True
    )
    found, rest = {}, result.stdout.decode().lstrip()
    while rest:
        one, end = json.JSONDecoder().raw_decode(rest)
        found[one["Path"]] = Path(one["Dir"])
        rest = rest[end:].lstrip()
    return found


@lru_cache(maxsize=1)
def definitions_of_custom_resources() -> list[Schema]:
    """The CustomResourceDefinitions that the chart and its examples use, but for Strimzi's."""
    found = []
    for module, files in _FOLDERS.items():
        for file in files:
            text = (modules()[module] / file).read_text()
            found += [one for one in yaml.load_all(text, Loader=_loader()) if one]
    return [one for one in found if "elastic" not in one["spec"]["group"] or one["metadata"]["name"] in _ECK]


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def schemas() -> dict[str, Schema]:
    """JSON Schemas by the names that kubeconform gives them; no unknown field is taken."""
    definitions = json.loads((modules()["k8s.io/kubernetes"] / "api/openapi-spec/swagger.json").read_text())
    definitions = {name: _strict(schema) for name, schema in definitions["definitions"].items()}
    found = {}
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            group = kind["group"].partition(".")[0]
            file = "-".join(filter(None, (kind["kind"].lower(), group, kind["version"])))
            found[file] = {"$ref": f"#/definitions/{name}", "definitions": _reachable(name, definitions)}
    for crd in definitions_of_custom_resources():
        spec = crd["spec"]
        for version in spec["versions"]:
            file = f"{spec['names']['kind'].lower()}-{spec['group'].partition('.')[0]}-{version['name']}"
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema.setdefault("properties", {})["metadata"] = {"type": "object"}
            found[file] = schema
    return found


def _strict(schema: Any) -> Any:
    """A schema of OpenAPI as JSON Schema: unknown fields are errors, and a quantity is a number or a text."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    if schema.get("description", "").startswith("Quantity is a fixed-point"):
        return {"type": ["number", "string"]}
    found = {key: _strict(value) for key, value in schema.items() if key not in ("format", "description", "properties")}
    if "properties" in schema:
        # A field may be named as a keyword is.
        found["properties"] = {name: _strict(one) for name, one in schema["properties"].items()}
        if not {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys():
            found["additionalProperties"] = False
    return found


def _reachable(name: str, definitions: dict[str, Schema]) -> dict[str, Schema]:
    """The definitions that one refers to, over any number of steps."""
    found: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = definitions[name]
        text = json.dumps(definitions[name])
        waiting += [part.partition('"')[0] for part in text.split('"#/definitions/')[1:]]
    return found


def main(folder: Path) -> None:
    """Write each schema into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / f"{name}.json").write_text(json.dumps(schema))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
