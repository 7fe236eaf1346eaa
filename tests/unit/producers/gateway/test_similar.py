"""Similar rows over HTTP: right answers, ties, parameters that are named, versions without an index, promotions."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Meta

from machine_learning_engineering.core.similarity import Similarity
from machine_learning_engineering.registry import similar
from machine_learning_engineering.registry.manifest import Manifest
from machine_learning_engineering.registry.similar import SimilarIndex
from model.diamonds import Diamonds
from producers.gateway.keys import KeyFile
from producers.gateway.similar import MAX_ROWS, parse
from tests.support.gateway import Running, gateway, put_model
from tests.unit.producers.gateway.test_predictions import problem

GRADES = {"cut": "Ideal", "color": "E", "clarity": "SI2"}
REST = {"depth": 61.5, "table": 55.0, "x": 3.95, "y": 3.98, "z": 2.43}
STONES = [GRADES | REST | {"carat": carat} for carat in (0.31, 0.5, 0.29, 0.31, 1.0)]
STONES += [GRADES | REST | {"carat": 0.3, "cut": "Very Good"}]
PATH = "/v1/diamonds/similar"
QUESTION = "cut=Ideal&color=E&clarity=SI2&carat=0.3"


def put_diamonds(registry: Path, stones: list[dict[str, Any]] | None = None, first_price: int = 100) -> str:
    """A champion with the real model's schema and an index of these stones; their prices count up."""
    declared = Diamonds.similarity()
    assert declared is not None
    files = {}
    if stones is not None:
        content = similar.encode(declared, stones, range(first_price, first_price + len(stones)))
        assert content is not None
        files = {similar.SIMILAR_FILE: content}
    return put_model(registry, "diamonds", "value", files=files, features_schema=Diamonds.schema())


@pytest.fixture
def running(tmp_path: Path) -> Any:
    put_diamonds(tmp_path / "registry", STONES)
    with gateway(tmp_path) as found:
        yield found


def prices(running: Running, query: str) -> list[int]:
    answer = running.client.get(f"{PATH}?{query}")
    assert answer.status_code == 200, answer.text
    return [row["label"] for row in answer.json()["rows"]]


def test_the_nearest_come_first(running: Running) -> None:
    """0.29 and 0.31 are equally far from 0.3: the lesser first, and the two of 0.31 as they were trained."""
    answer = running.client.get(f"{PATH}?{QUESTION}&n=2")
    assert answer.json() == {
        "model": "diamonds",
        "model_version": "v1",
        "rows": [
            {"features": STONES[2], "label": 102, "distance": 0.01},
            {"features": STONES[0], "label": 100, "distance": 0.01},
        ],
        "total": 5,
        "ties": 1,
    }
    assert answer.headers["x-model-version"] == "v1"
    assert prices(running, QUESTION) == [102, 100, 103, 101, 104]
    assert prices(running, QUESTION + "&n=4") == [102, 100, 103, 101]
    assert prices(running, "cut=Very%20Good&color=E&clarity=SI2&carat=3e-1") == [105]
    assert prices(running, "cut=Fair&color=J&clarity=IF&carat=50") == []


@pytest.mark.parametrize(
    ("query", "field", "complaint"),
    [
        ("", "cut", "is missing: it must be one of Fair, Good, Ideal, Premium, Very Good"),
        ("cut=Ideal&color=E&clarity=SI2", "carat", "is missing: it must be a number greater than 0 and at most 50"),
        (QUESTION.replace("SI2", "si2"), "clarity", "must be one of I1, IF, SI1, SI2, VS1, VS2, VVS1, VVS2"),
        (QUESTION + "&cut=Ideal", "cut", "must be given once"),
        (QUESTION + "&weight=1", "weight", "is unknown: there are cut, color, clarity, carat, n"),
        (QUESTION + "&n=0", "n", f"must be an integer of at least 1 and at most {MAX_ROWS}"),
        (QUESTION + "&n=101", "n", "must be an integer"),
        (QUESTION + "&n=", "n", "must be an integer"),
        (QUESTION + "&n=2.0", "n", "must be an integer"),
        *(
            (QUESTION.replace("0.3", quote(carat)), "carat", "must be a number greater than 0 and at most 50")
            for carat in ("0", "-1", "50.1", "nan", "inf", "0,3", "1_0", "", " 1", "0x1", "1e999", "\u0661", "9" * 500)
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_takes(
    running: Running, query: str, field: str, complaint: str
) -> None:
    found = problem(running.client.get(f"{PATH}?{query}"), 422, "invalid-request")
    assert found["field"] == field
    assert complaint in found["detail"]
    assert running.client.get(found["example"]).status_code == 200


def test_no_message_quotes_a_value(running: Running) -> None:
    for query in (QUESTION.replace("Ideal", "Anna Smith"), QUESTION + "&Anna Smith=1", QUESTION + "&n=Anna Smith"):
        assert "Smith" not in running.client.get(f"{PATH}?{query}").text


@given(text=st.text(max_size=20) | st.floats().map(str), name=st.sampled_from(["cut", "carat", "n"]))
def test_any_text_is_a_value_or_a_named_problem(text: str, name: str) -> None:
    schema: dict[str, Any] = {
        "cut": {"enum": ["Fair", 3, True]},
        "carat": {"type": "number", "exclusiveMinimum": 0},
        "n": {"anyOf": [{"type": "boolean"}, {"type": "integer"}]},
    }[name]
    value = parse(text, schema)
    assert value is None or Draft202012Validator(schema).is_valid(value)


def test_a_model_without_an_index_says_why(tmp_path: Path) -> None:
    """One that declares nothing, and one from before it did."""
    put_diamonds(tmp_path / "registry")
    put_model(tmp_path / "registry")
    with gateway(tmp_path) as running:
        for name in ("diamonds", "line"):
            found = problem(running.client.get(f"/v1/{name}/similar?number=1"), 404, "no-similar-rows")
            assert f"version v1 of {name} was trained without one" in found["detail"]
            assert f"inflight train {name}" in found["detail"]
            assert running.client.get(f"/v1/models/{name}").json()["similar"] is None
        assert not [path for path in running.client.get("/openapi.json").json()["paths"] if "similar" in path]
        problem(running.client.get("/v1/nothing/similar"), 404, "unknown-model")
        problem(running.client.post("/v1/line/similar", json={"number": 1}), 405, "method-not-allowed")
        assert running.client.post("/v1/line/double", json={"number": 1}).status_code == 200


def test_a_promotion_swaps_it(tmp_path: Path) -> None:
    """Forth, and back to a version without one."""
    registry = tmp_path / "registry"
    put_diamonds(registry, STONES)
    with gateway(tmp_path) as running:
        assert prices(running, QUESTION + "&n=1") == [102]
        put_diamonds(registry, STONES[:1], first_price=700)
        running.client.get("/v1/models")
        answer = running.client.get(f"{PATH}?{QUESTION}").json()
        assert (answer["model_version"], [row["label"] for row in answer["rows"]]) == ("v2", [700])
        put_diamonds(registry)
        running.client.get("/v1/models")
        problem(running.client.get(f"{PATH}?{QUESTION}"), 404, "no-similar-rows")


def test_a_damaged_index_takes_nothing_else_with_it(tmp_path: Path) -> None:
    """The new version is served; the index comes back with its file, without a restart."""
    registry = tmp_path / "registry"
    version = put_diamonds(registry, STONES)
    path = registry / "diamonds" / version / similar.SIMILAR_FILE
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.31", b"0.32"))
    with gateway(tmp_path) as running:
        assert running.client.get("/v1/models/diamonds").json()["version"] == version
        answer = running.client.get(f"{PATH}?{QUESTION}")
        problem(answer, 503, "similar-unavailable")
        assert "retry-after" in answer.headers
        assert PATH not in running.client.get("/openapi.json").json()["paths"]
        path.write_bytes(content)
        running.client.get("/v1/models")
        assert prices(running, QUESTION + "&n=1") == [102]


def test_an_index_is_read_once_a_version(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else changes in the file of aliases."""
    reads: list[str] = []
    original = similar.read

    def read(folder: Path, manifest: Manifest) -> SimilarIndex | None:
        reads.append(manifest.version)
        return original(folder, manifest)

    monkeypatch.setattr(similar, "read", read)
    registry = running.settings.registry_dir
    (registry / "diamonds" / "aliases.json").write_text('{"champion": "v1", "challenger": "v1"}')
    assert running.client.get("/v1/models/diamonds").json()["similar"]["rows"] == len(STONES)
    assert reads == []
    put_diamonds(registry, STONES)
    assert running.client.get("/v1/models/diamonds").json()["version"] == "v2"
    assert reads == ["v2"]


def test_it_is_in_the_document(running: Running) -> None:
    """With the parameters' own schemas; a real answer is valid."""
    document = running.client.get("/openapi.json").json()
    operation = document["paths"][PATH]["get"]
    parameters = {one["name"]: one for one in operation["parameters"]}
    assert list(parameters) == ["cut", "color", "clarity", "carat", "n"]
    assert [one["required"] for one in parameters.values()] == [True, True, True, True, False]
    assert set(parameters["cut"]["schema"]["enum"]) == {"Fair", "Good", "Very Good", "Premium", "Ideal"}
    assert (parameters["carat"]["schema"]["maximum"], parameters["n"]["schema"]["maximum"]) == (50, MAX_ROWS)
    for one in parameters.values():
        Draft202012Validator(one["schema"]).validate(one["example"])
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator(schema).validate(running.client.get(f"{PATH}?{QUESTION}").json())
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
    shown = running.client.get("/v1/models/diamonds").json()
    assert shown["similar"] == {"path": PATH, "by": ["cut", "color", "clarity"], "nearest": "carat", "rows": 6}
    model = document["components"]["schemas"]["Model"]["properties"]["similar"]
    Draft202012Validator(model).validate(shown["similar"])
    Draft202012Validator(model).validate(None)


class Passenger(msgspec.Struct, frozen=True):
    deck: Literal["A", "B"] | None
    pclass: Literal[1, 2, 3]
    alone: bool
    age: Annotated[int, Meta(ge=0, le=120)] | None = None


def test_other_types_and_missing_values(tmp_path: Path) -> None:
    """Integers, booleans and fields that may be null, which a query can't ask for."""
    rows = [
        {"deck": deck, "pclass": 3, "alone": alone, "age": age}
        for deck in ("A", None)
        for alone in (True, False)
        for age in (30, 40, None)
    ]
    content = similar.encode(Similarity(("deck", "pclass", "alone"), "age"), rows, range(len(rows)))
    assert content is not None
    put_model(
        tmp_path / "registry",
        "people",
        files={similar.SIMILAR_FILE: content},
        features_schema=msgspec.json.schema(Passenger),
    )
    with gateway(tmp_path) as running:

        def ask(query: str) -> Any:
            return running.client.get(f"/v1/people/similar?{query}")

        answer = ask("deck=A&pclass=3&alone=false&age=34").json()
        assert [(row["features"]["age"], row["distance"]) for row in answer["rows"]] == [(30, 4.0), (40, 6.0)]
        assert problem(ask("deck=&pclass=3&alone=false&age=3"), 422, "invalid-request")["field"] == "deck"
        assert problem(ask("deck=A&pclass=4&alone=false&age=3"), 422, "invalid-request")["field"] == "pclass"
        assert problem(ask("deck=A&pclass=3&alone=0&age=3"), 422, "invalid-request")["field"] == "alone"
        found = problem(ask("deck=A&pclass=3&alone=true&age=3.5"), 422, "invalid-request")
        assert found["detail"] == "parameter `age` must be an integer of at least 0 and at most 120"
        assert ask(found["example"].partition("?")[2]).status_code == 200
        parameters = running.client.get("/openapi.json").json()["paths"]["/v1/people/similar"]["get"]["parameters"]
        for one in parameters:
            Draft202012Validator(one["schema"]).validate(one["example"])
            assert not Draft202012Validator(one["schema"]).is_valid(None)


def test_it_needs_no_stream(running: Running) -> None:
    running.stream.problem = "the broker is away"
    assert prices(running, QUESTION + "&n=1") == [102]


def test_a_key_needs_the_scope_read(running: Running) -> None:
    """The rows are training data."""
    keys = KeyFile(running.settings.gateway_keys_file)
    reader, other = keys.add("reader", ["read"])[1], keys.add("other", ["predict"])[1]
    running.keys.refresh()
    problem(running.client.get(f"{PATH}?{QUESTION}"), 401, "unauthorized")
    problem(running.client.get(f"{PATH}?{QUESTION}", headers={"X-API-Key": other}), 403, "forbidden")
    assert running.client.get(f"{PATH}?{QUESTION}", headers={"X-API-Key": reader}).status_code == 200
