"""A loop as people write it: events as JSON, a data frame a batch, the pipeline, a result for each; at least once.

Arguments: broker, topic of events, topic of results, joblib file.
"""

import json
import signal
import sys

import joblib
import pandas as pd
from confluent_kafka import Consumer, Producer

from tests.support.company import COLUMNS

BATCH = 500


def row_of(event: dict) -> dict:
    """The columns of the pipeline."""
    order, customer, session = event["order"], event["customer"], event["session"]
    return {
        "amount": order["amount"],
        "distance_km": order["shipping"]["distanceKm"],
        "items": order["items"],
        "account_days": customer["accountDays"],
        "chargebacks": customer["chargebacks"],
        "hour": session["hour"],
        "payment": order["payment"],
        "country": order["shipping"]["country"],
        "device": session["device"],
        "category": order["category"],
        "referrer": session["referrer"],
        "coupon": order["coupon"],
    }


def main(broker: str, source: str, target: str, model: str) -> None:
    pipeline = joblib.load(model)
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": f"own-{target}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    consumer.subscribe([source])
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    while running:
        messages = [message for message in consumer.consume(BATCH, 0.2) if message.error() is None]
        if not messages:
            continue
        events = [json.loads(message.value()) for message in messages]
        frame = pd.DataFrame([row_of(event) for event in events])[COLUMNS]
        for message, event, probability in zip(messages, events, pipeline.predict_proba(frame)[:, 1], strict=True):
            result = {"id": event["order"]["id"], "probability": float(probability), "fraud": bool(probability > 0.5)}
            producer.produce(target, json.dumps(result), message.key())
        producer.flush()
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
