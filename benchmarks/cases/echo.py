"""The bare loop without a model: what the broker and two clients take by themselves."""

from benchmarks.cases.bare import loop
from benchmarks.cases.task import Task
from machine_learning_engineering.events import decode_request


def main() -> None:
    """Give each request back as its result, until SIGTERM."""
    loop(Task(), lambda values: [(decode_request(value).request_id.encode(), value) for value in values])


if __name__ == "__main__":
    main()
