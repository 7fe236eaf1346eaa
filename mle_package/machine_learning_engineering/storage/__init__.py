"""Files behind a path or a URL: one interface, a local folder and an object store."""
