"""Dead letters: record format, reader and writer."""
