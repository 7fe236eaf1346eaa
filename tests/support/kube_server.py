"""A real API server of Kubernetes with its etcd, on the loopback interface: it validates, admits and stores.

No controller and no node: what is stored runs nowhere.
"""

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from inflight.stack.process import usable_port
from tests.support.tools import tool
from tests.support.waiting import until

TOKEN = "for-this-test-only"
_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "Elasticsearch": "elasticsearches"}


class Answer(NamedTuple):
    status: int
    body: Mapping[str, Any]
    warnings: list[str]


class KubeServer:
    """Its API, as an administrator.

    Args:
        folder: for the kubeconfig.
        port: it listens on.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.kubeconfig = folder / "kubeconfig"
        cluster = {"server": self.url, "insecure-skip-tls-verify": True}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self._context = ssl.create_default_context()
        # Its certificate is made at each start.
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """One request."""
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._context) as response:
                warnings = response.headers.get_all("Warning") or []
                content = response.read()
                found = json.loads(content) if content.startswith(b"{") else {}
                return Answer(response.status, found, warnings)
        except HTTPError as error:
            with error:
                content = error.read()
                return Answer(error.code, json.loads(content) if content.startswith(b"{") else {}, [])

    def is_ready(self) -> bool:
        try:
            return self.call("GET", "/readyz").status == 200
        except (URLError, OSError, ValueError):
            return False

    def apply(self, manifest: Mapping[str, Any], query: str = "") -> Answer:
        """Apply an object on the server, with strict fields: an unknown one, or one given twice, is an error."""
        metadata, version = manifest["metadata"], manifest["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        kind = manifest["kind"]
        plural = _PLURALS.get(kind, kind.lower() + "s")
        path = f"{root}{space}/{plural}/{metadata['name']}?fieldManager=test&force=true&fieldValidation=Strict{query}"
        return self.call("PATCH", path, manifest)


@contextmanager
def kube_server(folder: Path) -> Iterator[KubeServer]:
    """Start both programs; at the end they stop."""
    programs = tool("kube-apiserver", "cluster"), tool("server", "cluster")
    store, peer, port = usable_port(0), usable_port(0), usable_port(0)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, raw, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, raw, plain))
    (folder / "tokens.csv").write_text(f"{TOKEN},test,test,system:masters\n")
    etcd = [
        programs[1],
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{store}",
        f"--advertise-client-urls=http://127.0.0.1:{store}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
    ]
    server = [
        programs[0],
        f"--etcd-servers=http://127.0.0.1:{store}",
        "--bind-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'key.pem'}",
        f"--service-account-signing-key-file={folder / 'key.pem'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
    ]
    found = KubeServer(folder, port)
    with ExitStack() as stack:
        for name, command in (("etcd", etcd), ("server", server)):
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        until(found.is_ready, 120, "the API server is ready")
        yield found
