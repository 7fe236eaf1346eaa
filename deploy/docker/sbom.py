"""What the image consists of, as a CycloneDX 1.6 document: this environment's packages, and Debian's below it."""

import json
import platform
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

DPKG = Path("/var/lib/dpkg/status")


def document(status: Path = DPKG) -> dict[str, Any]:
    """The document. It names no time and no random number: equal images have equal documents."""
    found = [_python_package(one) for one in distributions()] + _debian_packages(status)
    product = {"type": "application", "name": "inflight-streaming", "bom-ref": "inflight-streaming"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": sorted({one["bom-ref"]: one for one in found}.values(), key=lambda one: str(one["bom-ref"])),
    }


def _python_package(distribution: Distribution) -> dict[str, Any]:
    name = distribution.metadata["Name"].lower().replace("_", "-")
    url = f"pkg:pypi/{name}@{distribution.version}"
    found = {"type": "library", "name": name, "version": distribution.version, "purl": url, "bom-ref": url}
    if licence := distribution.metadata.get("License-Expression"):
        found["licenses"] = [{"expression": licence}]
    return found


def _debian_packages(status: Path) -> list[dict[str, Any]]:
    if not status.is_file():
        return []
    found = []
    for paragraph in status.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            url = f"pkg:deb/debian/{fields['Package']}@{fields['Version']}?arch={fields['Architecture']}"
            version = fields["Version"]
            found.append(
                {"type": "library", "name": fields["Package"], "version": version, "purl": url, "bom-ref": url}
            )
    python = platform.python_version()
    url = f"pkg:generic/python@{python}"
    return [*found, {"type": "platform", "name": "python", "version": python, "purl": url, "bom-ref": url}]


if __name__ == "__main__":
    print(json.dumps(document(), indent=1))  # noqa: T201 - the result
