"""Live streams of the topics as server-sent events. Positions are Kafka's, so any gateway resumes them."""
