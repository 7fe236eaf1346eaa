"""What schemathesis can't make from a schema: uploads, which are lines of JSON."""

import json

import schemathesis
from hypothesis import strategies as st

ROW = {"carat": 0.23, "cut": "Ideal", "color": "E", "clarity": "SI2", "depth": 61.5, "table": 55.0}
ROW |= {"x": 3.95, "y": 3.98, "z": 2.43}
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)
LINES = (
    st.just(json.dumps(ROW).encode())
    | st.builds(lambda name, value: json.dumps(ROW | {name: value}).encode(), st.sampled_from(sorted(ROW)), VALUES)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
)
schemathesis.openapi.media_type(
    "application/x-ndjson",
    st.builds(bytes.join, st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.lists(LINES, max_size=20)),
)
