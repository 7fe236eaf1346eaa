"""The journal of replayed dead letters survives restarts and crashes."""

from pathlib import Path

import pytest

from producers.journal import Journal, JournalInUse, open_journal

PLACE = ("dead-letters", 0, 7, 1_000)


def test_what_was_noted_is_known_after_a_restart(tmp_path: Path) -> None:
    """The file outlives the process."""
    path = tmp_path / "home" / "journal.jsonl"
    with open_journal(path) as journal:
        assert PLACE not in journal
        journal.add([PLACE])
    with open_journal(path) as journal:
        assert PLACE in journal


def test_the_same_place_on_a_topic_made_anew_is_another_letter(tmp_path: Path) -> None:
    """Its time differs."""
    journal = Journal(tmp_path / "j")
    journal.add([PLACE])
    assert ("dead-letters", 0, 7, 2_000) not in Journal(tmp_path / "j")


def test_a_line_that_a_crash_cut_short_loses_only_itself(tmp_path: Path) -> None:
    """Neither the lines before nor the next one suffer."""
    path = tmp_path / "j"
    Journal(path).add([PLACE])
    with path.open("ab") as stream:
        stream.write(b'{"topic":"dead-let')
    later = ("dead-letters", 0, 8, 1_000)
    Journal(path).add([later])
    assert PLACE in Journal(path)
    assert later in Journal(path)


def test_only_one_replay_at_a_time(tmp_path: Path) -> None:
    """Two would replay the same letters twice."""
    path = tmp_path / "j"
    with open_journal(path), pytest.raises(JournalInUse, match="another replay"), open_journal(path):
        pass
    with open_journal(path) as journal:
        assert PLACE not in journal
