"""What Elasticsearch holds: one module for each family of daily indices, `inference-<family>-YYYY.MM.DD`.

The Structs declare every field of a document; `monitoring/elastic/templates/*.json` maps each of them, and a test compares
the two. The rule for change is that of the events: fields are only added.
"""
