"""What Elasticsearch holds: one module for each family of daily indices, `inference-<family>-YYYY.MM.DD`.

The Structs declare every field of a document; `monitoring/elasticsearch/*.json` maps each of them, and a test compares
the two. The rule for change is that of the events: fields are only added.
"""

from monitoring.documents.common import ErrorFields, Id, ModelFields, trace_ids
from monitoring.documents.log import (
    DATASET,
    INDEX_PATTERN,
    INDEX_PREFIX,
    MAX_ID_BYTES,
    Document,
    EventFields,
    InferenceFields,
    KafkaFields,
    canonical,
    document_id,
    encode,
    fingerprint,
    index_name,
    to_document,
    to_fields,
)

FAMILIES = ("logs", "drift", "quality", "dead-letters", "model-events")

__all__ = [
    "DATASET",
    "FAMILIES",
    "INDEX_PATTERN",
    "INDEX_PREFIX",
    "MAX_ID_BYTES",
    "Document",
    "ErrorFields",
    "EventFields",
    "Id",
    "InferenceFields",
    "KafkaFields",
    "ModelFields",
    "canonical",
    "document_id",
    "encode",
    "fingerprint",
    "index_name",
    "to_document",
    "to_fields",
    "trace_ids",
]
