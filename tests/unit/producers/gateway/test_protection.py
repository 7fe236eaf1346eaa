"""Keys, scopes, hosts, limits, budgets and headers."""

import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from producers.gateway.access import Unprotected, is_loopback, require_protection
from producers.gateway.keys import KeyFile, KeysError, Scope
from producers.gateway.settings import GatewaySettings
from tests.support.gateway import Topics, gateway
from tests.unit.producers.gateway.test_predictions import PREDICT, problem

ONE = {"features": {"number": 4}}


def add(home: Path, *scopes: Scope, name: str = "shop") -> str:
    return KeyFile(home / "gateway-keys.json").add(name, scopes)[1]


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("predict", {"predict"}), ("read", {"read"}), ("label", {"label"}), ("admin", {"predict", "read", "label"})],
)
def test_scopes(tmp_path: Path, scope: Scope, allowed: set[str]) -> None:
    headers = {"Authorization": f"Bearer {add(tmp_path, scope)}"}
    with gateway(tmp_path) as running:
        calls = {
            "predict": lambda: running.client.post(PREDICT, json=ONE, headers=headers),
            "read": lambda: running.client.get("/v1/models", headers=headers),
            "label": lambda: running.client.post(
                "/v1/predictions/x/label", json={"label": 1, "model": "line"}, headers=headers
            ),
        }
        for name, call in calls.items():
            response = call()
            if name in allowed:
                assert response.status_code < 300, (name, response.text)
            else:
                assert scope not in problem(response, 403, "forbidden")["detail"].partition("scope")[2]


def test_keys_are_needed_once_there_is_one(tmp_path: Path) -> None:
    """Health and the documentation stay open; keys are accepted in two headers."""
    text = add(tmp_path, "predict")
    with gateway(tmp_path) as running:
        for headers in ({}, {"X-API-Key": text[:-1] + "_"}, {"Authorization": "Bearer nonsense"}, {"X-API-Key": "é"}):
            encoded = {name: value.encode() for name, value in headers.items()}
            response = running.client.post(PREDICT, json=ONE, headers=encoded)
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")
        assert running.client.post(PREDICT, json=ONE, headers={"X-API-Key": text}).status_code == 200
        for path in ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"):
            assert running.client.get(path).status_code == 200, path


def test_revoking_the_last_key_does_not_open_the_gateway(tmp_path: Path) -> None:
    text = add(tmp_path, "predict")
    with gateway(tmp_path) as running:
        headers = {"X-API-Key": text}
        assert running.client.post(PREDICT, json=ONE, headers=headers).status_code == 200
        KeyFile(tmp_path / "gateway-keys.json").revoke("shop")
        running.keys.refresh()
        problem(running.client.post(PREDICT, json=ONE, headers=headers), 401, "unauthorized")
        problem(running.client.post(PREDICT, json=ONE), 401, "unauthorized")
        (tmp_path / "gateway-keys.json").unlink()
        running.keys.refresh()
        problem(running.client.post(PREDICT, json=ONE), 401, "unauthorized")


def test_the_file_of_keys(tmp_path: Path) -> None:
    """It has no secrets, and only its owner may read it."""
    path = tmp_path / "gateway-keys.json"
    file = KeyFile(path)
    key, text = file.add("shop", ["predict", "read"])
    assert text.rpartition("_")[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeysError, match="revoke it first"):
        file.add("shop", ["predict"])
    with pytest.raises(KeysError, match="letters"):
        file.add("a b", ["predict"])
    file.revoke(key.id)
    with pytest.raises(KeysError, match="no key"):
        file.revoke("shop")
    file.add("shop", ["predict"], timedelta(seconds=-1))
    file.add("shop", ["predict"])
    assert [one.revoked_at is None for one in file.read()] == [False, True, True]
    path.write_text("{")
    with pytest.raises(KeysError, match="can't be read"):
        file.read()


def test_expired_keys(tmp_path: Path) -> None:
    _, text = KeyFile(tmp_path / "gateway-keys.json").add("shop", ["predict"], timedelta(seconds=-1))
    with gateway(tmp_path) as running:
        problem(running.client.post(PREDICT, json=ONE, headers={"X-API-Key": text}), 401, "unauthorized")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_without_keys_it_refuses_to_listen_elsewhere(tmp_path: Path, host: str) -> None:
    settings = GatewaySettings(_env_file=None, home=tmp_path, gateway_host=host)  # type: ignore[call-arg]
    keys = KeyFile(settings.gateway_keys_file)
    keys.refresh()
    with pytest.raises(Unprotected, match="inflight keys add"):
        require_protection(settings, keys)
    keys.add("shop", ["predict"])
    keys.refresh()
    require_protection(settings, keys)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.168.1.5"])
def test_a_page_whose_name_points_here_is_refused(tmp_path: Path, host: str) -> None:
    with gateway(tmp_path) as running:
        problem(running.client.get("/v1/models", headers={"Host": host}), 403, "host-not-allowed")
        for good in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
            assert running.client.get("/v1/models", headers={"Host": good}).status_code == 200


def test_cors_is_closed_unless_opened(tmp_path: Path) -> None:
    ask = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    with gateway(tmp_path) as running:
        response = running.client.post(PREDICT, json=ONE, headers={"Origin": "https://app.example.com"})
        assert "access-control-allow-origin" not in response.headers
        assert running.client.options(PREDICT, headers=ask).status_code == 405
    with gateway(tmp_path, gateway_cors_origins=("https://app.example.com",)) as running:
        assert running.client.options(PREDICT, headers=ask).headers["access-control-allow-origin"] == ask["Origin"]
        evil = running.client.options(PREDICT, headers=ask | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in evil.headers


def test_every_response_has_the_headers_of_a_careful_server(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        for path in ("/v1/models", "/nothing", "/v1/predictions/x", "/docs", "/docs/nothing"):
            headers = running.client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"


def test_unknown_paths_and_methods(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        problem(running.client.get("/nothing"), 404, "not-found")
        response = running.client.get(PREDICT)
        problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "POST"


def test_only_json(tmp_path: Path) -> None:
    """A web page can send forms and plain text to any address without asking."""
    with gateway(tmp_path) as running:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            response = running.client.post(PREDICT, content=b"{}", headers={"Content-Type": kind})
            problem(response, 415, "unsupported-media-type")
        packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        problem(running.client.post(PREDICT, content=b"{}", headers=packed), 415, "unsupported-media-type")


def test_sizes(tmp_path: Path) -> None:
    """The declared size is refused before a byte is read; an undeclared one once it is too much."""
    with gateway(tmp_path, gateway_max_body_bytes=1_000, max_request_bytes=600, gateway_max_rows=3) as running:
        large = b'{"features": {"number": ' + b"1" * 2_000 + b"}}"
        json_type = {"Content-Type": "application/json"}
        response = running.client.post(PREDICT, content=large, headers=json_type)
        problem(response, 413, "too-large")
        assert response.headers["connection"] == "close"
        chunked = (large[i : i + 100] for i in range(0, len(large), 100))
        problem(running.client.post(PREDICT, content=chunked, headers=json_type), 413, "too-large")
        wide = {"rows": [{"number": 1}, {"number": 1, "text": "x" * 500}]}
        assert problem(running.client.post(PREDICT, json=wide), 413, "too-large")["field"] == "rows[1]"
        for rows in ([], [{"number": 1}] * 4):
            assert problem(running.client.post(PREDICT, json={"rows": rows}), 422, "invalid-request")["field"] == "rows"
        assert running.topics.requests == []


@pytest.mark.parametrize("levels", [70, 5_000, 100_000])
@pytest.mark.parametrize("path", [PREDICT, "/v1/line/double"])
def test_depth(tmp_path: Path, levels: int, path: str) -> None:
    with gateway(tmp_path) as running:
        deep = b'{"number": ' + b"[" * levels + b"]" * levels + b"}"
        content = b'{"features": ' + deep + b"}" if path == PREDICT else deep
        response = running.client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert "levels" in problem(response, 400, "malformed-request")["detail"]


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b'{"features": {"number": NaN}}', 400, None),
        (b'{"features": {"number": "\xff"}}', 400, None),
        (b"[]", 422, "body"),
        (b'{"feature": {}}', 422, "feature"),
        (b"{}", 422, "features"),
        (b'{"features": {}, "rows": []}', 422, "features"),
        (b'{"features": 4}', 422, "features"),
        (b'{"features": null}', 422, "features"),
        (b'{"rows": {}}', 422, "rows"),
        (b'{"rows": [{"number": 1}, 4]}', 422, "rows[1]"),
    ],
)
def test_bodies_that_are_no_requests(tmp_path: Path, content: bytes, status: int, field: str | None) -> None:
    with gateway(tmp_path) as running:
        response = running.client.post(PREDICT, content=content, headers={"Content-Type": "application/json"})
        found = problem(response, status, "malformed-request" if status == 400 else "invalid-request")
        assert found.get("field") == field
        assert found["example"] == {"features": {"number": 21.0}}
        assert running.topics.requests == []


def test_budgets(tmp_path: Path) -> None:
    """429 for the caller's own share, 503 for that of all."""
    rows: dict[str, Any] = {"rows": [{"number": 1}] * 3}
    with gateway(tmp_path, topics=Topics(), gateway_max_in_flight_per_caller=2) as running:
        response = running.client.post(PREDICT, json=rows)
        problem(response, 429, "too-many-requests")
        assert response.headers["retry-after"] == "1"
    with gateway(tmp_path, topics=Topics(), gateway_max_in_flight=2) as running:
        problem(running.client.post(PREDICT, json=rows), 503, "overloaded")
        assert running.client.post(PREDICT, json=ONE, headers={"Prefer": "respond-async"}).status_code == 202
    with gateway(tmp_path, topics=Topics(), gateway_max_in_flight_bytes=10) as running:
        problem(running.client.post(PREDICT, json=rows), 503, "overloaded")


def test_labels(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        request_id = running.client.post(PREDICT, json=ONE).json()["request_id"]
        path = f"/v1/predictions/{request_id}/label"
        response = running.client.post(path, json={"label": 8.5, "observed_at": "2026-01-02T03:04:05+01:00"})
        assert response.status_code == 202
        assert response.json() == {"request_id": request_id, "model": "line", "status": "accepted"}
        assert b'"label":8.5,"observed_at":"2026-01-02T02:04:05Z"' in running.topics.labels[0]
        ahead = running.client.post(path, json={"label": 8.5, "observed_at": "2126-01-02T03:04:05Z"})
        assert problem(ahead, 422, "invalid-request")["field"] == "observed_at"
        assert problem(running.client.post(path, json={}), 422, "invalid-request")["field"] == "label"
        unknown = running.client.post("/v1/predictions/other/label", json={"label": 1})
        assert problem(unknown, 404, "unknown-prediction")["field"] == "model"
        named = running.client.post("/v1/predictions/other/label", json={"label": 1, "model": "line"})
        assert named.status_code == 202
