"""Schemas of Terraform providers, read from the bindings of CDKTF, which were generated from the real ones.

    python -m deploy.provider_schemas SITE_PACKAGES FOLDER      # FOLDER/aws.json and so on, for deploy/tools/providers

Only the resources and data sources that the files of `deploy/terraform` use are written.
"""

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent / "terraform" / "aws"
PROVIDERS = ("aws", "helm", "kubernetes", "random")
# Arguments that take an object, and are no block.
_OBJECTS = {("helm", "kubernetes"), ("helm", "metadata")}
_META = "cdktf.TerraformMetaArguments"
Types = dict[str, Any]


def assembly(packages: Path, provider: str) -> Types:
    """The types of a provider's bindings, by their full names."""
    folder = packages / f"cdktf_cdktf_provider_{provider}" / "_jsii"
    (archive,) = folder.glob("*.jsii.tgz")
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/.jsii")
        assert member is not None
        return dict(json.load(io.TextIOWrapper(member))["types"])


def schema(provider: str, types: Types, used: dict[str, set[str]]) -> Types:
    """What `deploy/tools/providers` serves."""
    prefix = f"@cdktf/provider-{provider}"
    title = provider.title()
    found: Types = {"Resources": {}, "Data": {}}
    config = types[f"{prefix}.provider.{title}ProviderConfig"]
    found["Provider"] = _block(provider, types, config, None)
    # By the folder of the bindings: names of types that would be taken twice differ.
    configs = {
        one["namespace"]: one for one in types.values() if _META in one.get("interfaces", ()) and "namespace" in one
    }
    for kind, names in used.items():
        for name in sorted(names):
            if not name.startswith(f"{provider}_"):
                continue
            pascal = "".join(word.title() for word in name.removeprefix(f"{provider}_").split("_"))
            module = f"data{title}{pascal}" if kind == "Data" else pascal[0].lower() + pascal[1:]
            config = configs[module]
            found[kind][name] = _block(provider, types, config, types[config["fqn"].removesuffix("Config")])
    return found


def _block(provider: str, types: Types, config: Types, resource: Types | None) -> Types:
    """Arguments as attributes and blocks; what a resource says beside them is computed, and of any type."""
    attributes: Types = {}
    blocks: Types = {}
    for one in config.get("properties", ()):
        name = _name(one)
        inner, single = _struct(types, one["type"])
        if inner is not None and (provider, name) not in _OBJECTS:
            least = 0 if one.get("optional") else 1
            blocks[name] = {"Single": single, "Min": least, "Block": _block(provider, types, inner, None)}
            continue
        kind = "any" if inner is not None else _type(one["type"])
        optional = bool(one.get("optional"))
        # Computed too: whether a cloud fills it in if it is left out, bindings don't say.
        attributes[name] = {"Type": kind, "Required": not optional, "Optional": optional, "Computed": optional}
    for one in resource.get("properties", ()) if resource is not None else ():
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", one["name"]).lower()
        if one.get("immutable") and not one.get("static") and name not in attributes and name not in blocks:
            attributes[name] = {"Type": "any", "Computed": True}
    return {"Attributes": attributes, "Blocks": blocks}


def _name(one: Types) -> str:
    """The name of an argument in Terraform, from the link to its documentation."""
    docs = one.get("docs", {})
    match = re.search(r"#(\w+) [\w.]+#\w+\}", docs.get("remarks", "") + docs.get("summary", ""))
    return match[1] if match else re.sub(r"(?<!^)(?=[A-Z])", "_", one["name"]).lower()


def _parts(kind: Types) -> list[Types]:
    return list(kind["union"]["types"]) if "union" in kind else [kind]


def _struct(types: Types, kind: Types) -> tuple[Types | None, bool]:
    """The structure that an argument takes, and whether one at most."""
    for part in _parts(kind):
        single = "collection" not in part
        for inner in _parts(part if single else part["collection"]["elementtype"]):
            fqn = inner.get("fqn", "")
            if types.get(fqn, {}).get("kind") == "interface" and types[fqn].get("datatype"):
                return types[fqn], single
    return None, False


def _type(kind: Types) -> str:
    for part in _parts(kind):
        if "primitive" in part:
            return {"string": "string", "number": "number", "boolean": "bool"}.get(part["primitive"], "any")
        if "collection" in part:
            word = "map" if part["collection"]["kind"] == "map" else "list"
            return f"{word} {_type(part['collection']['elementtype'])}"
    return "any"


def main(packages: Path, folder: Path) -> None:
    """Write the schema of each provider."""
    text = "\n".join(file.read_text() for file in FILES.glob("*.tf"))
    used = {
        kind: set(re.findall(rf'(?m)^{word} "(\w+)"', text))
        for kind, word in (("Resources", "resource"), ("Data", "data"))
    }
    folder.mkdir(parents=True, exist_ok=True)
    for provider in PROVIDERS:
        found = schema(provider, assembly(packages, provider), used)
        (folder / f"{provider}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
