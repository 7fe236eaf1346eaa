"""The page about topics says how they are created."""

from pathlib import Path

from machine_learning_engineering.events.topics import MEBIBYTE, TOPICS

PAGE = Path(__file__).parents[3] / "docs" / "topics.md"
DAY = 24 * 3_600_000


def test_the_table_has_each_topic_with_its_settings() -> None:
    """Operators make their topics by it."""
    rows = [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    found = {row[0]: row[1:5] for row in rows if len(row) == 6}
    for topic in TOPICS:
        config = dict(topic.config)
        policy, size, retention = (config.get(name) for name in ("cleanup.policy", "max.message.bytes", "retention.ms"))
        assert found[topic.name] == [
            f"{policy}, {int(retention) // DAY} days" if retention else policy,
            f"{int(size) // MEBIBYTE} MiB" if size else "",
            config.get("message.timestamp.type", ""),
            config.get("compression.type", ""),
        ]
    assert found.keys() == {"topic", "---", *(topic.name for topic in TOPICS)}
