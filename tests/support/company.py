"""A company that has a fitted pipeline and a topic already: 12 mixed columns with missing values, and nested events."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ["amount", "distance_km", "items", "account_days", "chargebacks", "hour"]
TEXTS = ["payment", "country", "device", "category", "referrer"]
COLUMNS = [*NUMBERS, *TEXTS, "coupon"]


class Company(NamedTuple):
    """Files of a model and of its sample, the pipeline itself, and the orders as a frame."""

    model: Path
    sample: Path
    pipeline: Any
    orders: pd.DataFrame

    def events(self, rows: slice) -> list[tuple[str, dict[str, Any]]]:
        """Key and value of the orders as they are on the topic: the key is the customer's id."""
        return [
            (f"customer-{number % 37}", event_of(number, row))
            for number, row in list(enumerate(self.orders[COLUMNS].to_dict("records")))[rows]
        ]

    def expected(self, rows: slice) -> list[float]:
        """Probabilities of fraud, from the pipeline in a batch."""
        found: list[float] = self.pipeline.predict_proba(self.orders[COLUMNS][rows])[:, 1].tolist()
        return found


def event_of(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """An order as the shop publishes it."""
    plain = {name: None if value != value else value for name, value in row.items()}
    return {
        "order": {
            "id": f"o-{number:06}",
            **{name: plain[name] for name in ("amount", "items", "payment", "coupon", "category")},
            "shipping": {"distanceKm": plain["distance_km"], "country": plain["country"]},
        },
        "customer": {
            "id": f"customer-{number % 37}",
            "accountDays": plain["account_days"],
            "chargebacks": plain["chargebacks"],
        },
        "session": {name: plain[name] for name in ("device", "referrer", "hour")},
        "ts": 1_790_000_000_000 + number,
        "tags": ["web"],
    }


def features_of(row: dict[str, Any]) -> dict[str, Any]:
    """A request's features."""
    return {name: value for name, value in row.items() if value == value}


def make(folder: Path, rows: int = 300, seed: int = 5) -> Company:
    """Fit the pipeline, and save it and a sample of it that is not what it was fitted on."""
    orders = _orders(rows, seed)
    label = orders.pop("fraud")
    prepared = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            (
                "texts",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore")
                ),
                TEXTS,
            ),
        ],
        remainder="passthrough",
        sparse_threshold=0,
    )
    pipeline = make_pipeline(prepared, HistGradientBoostingClassifier(max_iter=30, random_state=1))
    fitted = rows * 3 // 5
    pipeline.fit(orders[:fitted], label[:fitted])
    model, sample = folder / "fraud.skops", folder / "orders.csv"
    skops.io.dump(pipeline, model)
    orders.assign(fraud=label)[fitted:].to_csv(sample, index=False)
    return Company(model, sample, pipeline, orders)


def write_events(company: Company, path: Path, rows: slice) -> None:
    """The events as lines of JSON, each with its key."""
    path.write_text("".join(json.dumps({"key": key, "value": value}) + "\n" for key, value in company.events(rows)))


def _orders(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "amount": random.gamma(2.0, 40.0, rows).round(2),
            "distance_km": random.gamma(1.5, 200.0, rows).round(1),
            "items": random.integers(1, 9, rows),
            "account_days": random.integers(0, 3_000, rows).astype(float),
            "chargebacks": random.poisson(0.1, rows),
            "hour": random.integers(0, 24, rows),
            "payment": random.choice(["card", "invoice", "giftcard", "paypal"], rows),
            "country": random.choice(["DE", "AT", "CH", "FR", "PL"], rows),
            "device": random.choice(["phone", "desktop", "tablet"], rows),
            "category": random.choice(["books", "toys", "tools", "food"], rows),
            "referrer": random.choice(["search", "mail", "direct"], rows),
            "coupon": random.random(rows) < 0.2,
        }
    )
    risk = frame.amount / 100 + frame.chargebacks * 2 + (frame.payment == "giftcard") - frame.account_days / 2_000
    frame["fraud"] = risk + random.normal(0, 0.6, rows) > 1.2
    for name, share in (
        ("distance_km", 0.06),
        ("account_days", 0.05),
        ("payment", 0.04),
        ("device", 0.1),
        ("referrer", 0.12),
    ):
        frame.loc[random.random(rows) < share, name] = np.nan
    return frame
