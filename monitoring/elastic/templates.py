"""Index templates (`templates/*.json`) and first indices."""

from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from importlib import resources

import msgspec
from elasticsearch import ApiError, Elasticsearch

from monitoring.documents.common import FAMILIES, index_for
from monitoring.elastic.client import UnexpectedResponse, index_names, request
from monitoring.settings import ElasticsearchSettings

_SETTINGS_TEMPLATE = "inflight-settings"


class ForeignTemplate(Exception):
    """Another index template would make our indices. The message names it and its priority."""


def put_templates(client: Elasticsearch, settings: ElasticsearchSettings) -> None:
    """Create or update all templates; they apply to indices that are created afterwards.

    Raises:
        ForeignTemplate: Another template claims the same indices with the same or a higher priority.
        elasticsearch.ApiError, elasticsearch.TransportError: as `request` does.
    """
    check_foreign_templates(client)
    folder = resources.files("monitoring.elastic") / "templates"
    for kind, endpoint in (("component", "/_component_template/"), ("index", "/_index_template/")):
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if not file.name.startswith(kind + "-"):
                continue
            name = file.name.removeprefix(kind + "-").removesuffix(".json")
            template = msgspec.json.decode(file.read_bytes())
            if name == _SETTINGS_TEMPLATE:
                template["template"]["settings"]["index"]["number_of_replicas"] = settings.elasticsearch_replicas
            request(client, "PUT", endpoint + name, template)


def create_first_indices(client: Elasticsearch, now: datetime) -> None:
    """Create the current index of each family that has none: ES|QL rejects a query whose pattern matches no index."""
    for family in FAMILIES:
        if index_names(client, f"inference-{family}-*"):
            continue
        try:
            request(client, "PUT", "/" + index_for(family, now))
        except ApiError as error:
            # Another indexer, or the first document, was faster.
            if "resource_already_exists" not in str(error):
                raise


def check_foreign_templates(client: Elasticsearch) -> None:
    """Check that our templates win: Elasticsearch takes the one of the highest priority and ignores the others.

    Raises:
        ForeignTemplate: Another template claims the same indices with the same or a higher priority.
        elasticsearch.ApiError, elasticsearch.TransportError: as `request` does.
    """
    ours = {
        file.name.removeprefix("index-").removesuffix(".json"): msgspec.json.decode(file.read_bytes())
        for file in (resources.files("monitoring.elastic") / "templates").iterdir()
        if file.name.startswith("index-")
    }
    response = request(client, "GET", "/_index_template")
    try:
        others = [
            (one["name"], one["index_template"]) for one in response["index_templates"] if one["name"] not in ours
        ]
    except (KeyError, TypeError) as error:
        raise UnexpectedResponse(f"a response without index templates: {response!r:.200}") from error
    for name, template in others:
        priority = template.get("priority", 0)
        for own in ours.values():
            index = own["index_patterns"][0].replace("*", "2026.01.31")
            if priority >= own["priority"] and _matches(index, template.get("index_patterns", ())):
                raise ForeignTemplate(
                    f"index template {name!r} with priority {priority} would make {own['index_patterns'][0]} instead "
                    f"of ours, which has {own['priority']}: give it a lower priority or other index patterns"
                )


def _matches(index: str, patterns: Iterable[str]) -> bool:
    # `*` is the only wildcard of Elasticsearch; names of indices contain none of the others.
    return any(fnmatchcase(index, pattern) for pattern in patterns)
