"""Documents in Elasticsearch: one module for each family of indices, `inference-<family>-*`.

The Structs declare every field of a document, `monitoring/elastic/templates/*.json` maps it, and a test compares both.
As with events, fields are only added, never renamed or removed.
"""
