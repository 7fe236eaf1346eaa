"""The kernel of Inflight: events, topics, the model contract and the registry.

Importing this package does nothing but define names; heavy parts (scikit-learn, a Kafka client) load on use.
"""

__version__ = "0.1.0"
