"""What is said on the stream and how: events, their schemas and headers, topics, clients of Kafka."""
