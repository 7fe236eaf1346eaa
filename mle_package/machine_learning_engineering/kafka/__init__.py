"""The Kafka client and the announcement of promotions. Needs the extra `kafka`."""
