"""Index templates (`templates/*.json`) and first indices."""

from datetime import datetime
from importlib import resources

import msgspec
from elasticsearch import ApiError, Elasticsearch

from monitoring.documents.common import FAMILIES, daily_index
from monitoring.elastic.client import index_names, request
from monitoring.settings import ElasticsearchSettings

_SETTINGS_TEMPLATE = "inflight-settings"


def put_templates(client: Elasticsearch, settings: ElasticsearchSettings) -> None:
    """Create or update all templates; they apply to indices that are created afterwards. Raises as `request` does."""
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
    """Create today's index of each family that has none: ES|QL rejects a query whose pattern matches no index."""
    for family in FAMILIES:
        if index_names(client, f"inference-{family}-*"):
            continue
        try:
            request(client, "PUT", "/" + daily_index(family, now))
        except ApiError as error:
            # Another indexer, or the first document, was faster.
            if "resource_already_exists" not in str(error):
                raise
