"""What the page asks is in the OpenAPI document, and the answers are as it says."""

from pathlib import Path

from jsonschema import Draft202012Validator

from tests.support.console import console, fill
from tests.unit.producers.gateway.console.test_console_routes import ask

PATHS = {
    "/v1/console/session": "/v1/console/session",
    "/v1/console/overview": "/v1/console/overview?seconds=900",
    "/v1/console/models": "/v1/console/models",
    "/v1/console/models/{model}": "/v1/console/models/diamonds",
    "/v1/console/predictions": "/v1/console/predictions?limit=7",
    "/v1/console/predictions/{request_id}": "/v1/console/predictions/diamonds-00001",
    "/v1/console/dead-letters": "/v1/console/dead-letters?reason=invalid_json",
}
WITH_KAFKA = {"/v1/console/dead-letters/{address}", "/v1/console/dead-letters/replay"}


def test_answers_are_as_the_document_says(tmp_path: Path) -> None:
    with console(tmp_path) as running:
        fill(running.watch, 100, 60)
        paths = ask(running, "/openapi.json")[1]["paths"]
        assert {path for path in paths if path.startswith("/v1/console/")} == {*PATHS, *WITH_KAFKA}
        for path, asked in PATHS.items():
            status, found = ask(running, asked)
            assert status == 200, asked
            schema = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            Draft202012Validator(schema).validate(found)
            # None of them is the route of a model named console.
            assert ask(running, asked, body={})[0] == 405, asked
        assert ask(running, "/v1/console/dead-letters/replay")[0] == 405, "no dead letter has this address"
