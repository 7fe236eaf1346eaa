"""All access to Elasticsearch: client, bulk writer, searches, templates and the prediction log."""
