"""The bare loop without a model: what the broker and two clients take by themselves."""

from confluent_kafka import Message

from benchmarks.cases.bare import loop
from benchmarks.cases.task import Task


def main() -> None:
    """Give each request back as its result, until SIGTERM."""
    task = Task()

    def echo(messages: list[Message]) -> list[tuple[str, bytes, bytes]]:
        return [(task.results, message.key(), message.value()) for message in messages]

    loop(task, echo)


if __name__ == "__main__":
    main()
