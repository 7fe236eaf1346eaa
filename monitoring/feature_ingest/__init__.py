"""Feature ingest: logged requests and labels into the feature store, from the stream."""
