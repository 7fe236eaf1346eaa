"""One suite over both kinds of stores: a local folder, and a real S3 server behind a URL."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from machine_learning_engineering.storage.location import Location
from machine_learning_engineering.storage.opening import open_store
from machine_learning_engineering.storage.store import Conflict, Store, StoreUnavailable
from tests.support.object_store import SECRET, S3Server
from tests.support.waiting import until

KINDS = ("folder", "s3")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3")
    return server.new_bucket() + "/some/folder"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(Location(url))


def write(store: Store, key: str, content: bytes) -> None:
    with store.edit(key) as file:
        file.replace(content)


def test_what_was_written_is_read(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("a/b/c")
    assert store.write_if_absent("a/b/c", b"\0one\xff")
    assert store.read("a/b/c") == b"\0one\xff"
    assert store.read("a/b/c", 5) == b"\0one\xff"
    with pytest.raises(OSError, match="more than 4 bytes"):
        store.read("a/b/c", 4)


def test_a_taken_key_is_not_written_again(store: Store) -> None:
    assert store.write_if_absent("a/b", b"one")
    assert store.write_if_absent("a/b", b"one")
    assert not store.write_if_absent("a/b", b"two")
    assert not store.write_if_absent("a/b", b"another one")
    assert store.read("a/b") == b"one"


def test_a_stamp_differs_after_each_change(store: Store) -> None:
    assert store.stamp("a/b") is None
    found = []
    for number in range(4):
        write(store, "a/b", b"%d" % number)
        found.append(store.stamp("a/b"))
        assert store.stamp("a/b") == found[-1]
    assert None not in found
    assert len(set(found)) == 4


def test_an_edit_knows_what_was_there_and_changes_nothing_if_it_fails(store: Store) -> None:
    with store.edit("a/b") as file:
        assert file.content is None
        file.replace(b"one")

    def fail() -> None:
        with store.edit("a/b") as file:
            assert file.content == b"one"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.edit("a/b"):
        pass
    assert store.read("a/b") == b"one"


COUNT = """
import sys
from machine_learning_engineering.storage.location import Location
from machine_learning_engineering.storage.opening import open_store
from machine_learning_engineering.storage.store import Conflict

store, left = open_store(Location(sys.argv[1])), int(sys.argv[2])
while left:
    try:
        with store.edit("numbers/count") as file:
            file.replace(b"%d" % (int(file.content or 0) + 1))
    except Conflict:
        continue
    left -= 1
"""


def test_no_change_of_several_processes_is_lost(url: str, store: Store) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, url, "12"]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert store.read("numbers/count") == b"36"


def test_of_several_writers_of_one_key_one_succeeds(store: Store) -> None:
    barrier, taken = threading.Barrier(6), []

    def take(number: int) -> None:
        barrier.wait()
        if store.write_if_absent("a/b", b"writer %d" % number):
            taken.append(number)

    run_together(take, 6)
    [winner] = taken
    assert store.read("a/b") == b"writer %d" % winner


def test_of_several_folders_of_one_name_one_is_complete(store: Store) -> None:
    barrier, taken = threading.Barrier(5), []

    def take(number: int) -> None:
        barrier.wait()
        # The first file is the same for all, as where machines train on the same data.
        files = {"model": b"same", "profile": b"%d" % number, "manifest": b"of %d" % number}
        if store.write_folder("a/v1", files):
            taken.append(number)

    run_together(take, 5)
    [winner] = taken
    assert store.read("a/v1/manifest") == b"of %d" % winner
    assert store.read("a/v1/profile") == b"%d" % winner
    assert store.complete_folders("a", "manifest") == ["v1"]


def run_together(target: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=target, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_folders_and_files_are_listed(store: Store) -> None:
    assert store.folders("") == []
    assert store.folders("a") == []
    assert list(store.files("a")) == []
    assert store.complete_folders("a", "last") == []
    for version in ("v1", "v2", "v10"):
        assert store.write_folder(f"a/{version}", {"first": b"12", "last": b"123"})
    store.write_if_absent("ab/v1/first", b"")
    assert sorted(store.folders("")) == ["a", "ab"]
    assert sorted(store.folders("a")) == ["v1", "v10", "v2"]
    assert sorted(store.complete_folders("a", "last")) == ["v1", "v10", "v2"]
    found = sorted(store.files("a"))
    assert [(one.key, one.size) for one in found if "v1/" in one.key] == [("a/v1/first", 2), ("a/v1/last", 3)]
    assert len(found) == 6
    assert all(abs(one.modified.timestamp() - time.time()) < 600 for one in found)


def test_many_files_are_all_listed(store: Store) -> None:
    # More than one page of S3.
    for number in range(1_010):
        store.write_if_absent(f"many/{number:04}", b"")
    assert len(list(store.files("many"))) == 1_010


def test_a_removed_file_is_gone(store: Store) -> None:
    write(store, "a/b", b"one")
    store.remove("a/b")
    store.remove("a/b")
    assert store.stamp("a/b") is None
    with pytest.raises(FileNotFoundError):
        store.read("a/b")
    assert store.write_if_absent("a/b", b"two")


def test_a_file_that_is_used_again_is_touched_or_written_again(store: Store) -> None:
    assert not store.touch("raw/one")
    assert store.write_if_absent("raw/one", b"1")
    store.touch("raw/one")
    assert store.read("raw/one") == b"1"


SAVE = """
import sys
from machine_learning_engineering.storage.location import Location
from machine_learning_engineering.storage.opening import open_store

store = open_store(Location(sys.argv[1]))
number = 0
while True:
    number += 1
    store.write_folder(f"a/v{number}", {"model": b"m" * 100_000, "profile": b"p" * 1_000, "manifest": b"last"})
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_folders_only(url: str, store: Store) -> None:
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SAVE, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 * round_)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    complete = store.complete_folders("a", "manifest")
    for version in (one for one in complete if one.startswith("v")):
        assert [len(store.read(f"a/{version}/{file}")) for file in ("model", "profile", "manifest")] == [
            100_000,
            1_000,
            4,
        ]
    assert complete


# --- what only a store behind a URL can do ---------------------------------------------------------------------------


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


def remote(bucket: str, timeout: float = 10.0) -> Store:
    return open_store(Location(bucket, timeout=timeout))


def test_a_writer_that_read_an_older_file_is_refused(bucket: str) -> None:
    store = remote(bucket)
    write(store, "a/b", b"one")
    with store.edit("a/b") as slow:
        write(store, "a/b", b"two")
        with pytest.raises(Conflict, match="a/b was changed by somebody else"):
            slow.replace(b"three")
    assert store.read("a/b") == b"two"
    with store.edit("a/b") as slow:
        store.remove("a/b")
        with pytest.raises(Conflict):
            slow.replace(b"three")
    with store.edit("new") as slow:
        write(store, "new", b"two")
        with pytest.raises(Conflict):
            slow.replace(b"three")


def test_a_write_whose_answer_was_lost_counts_once(s3: S3Server, bucket: str) -> None:
    store = remote(bucket)
    with s3.fault(method="PUT", status=500, after=True):
        assert store.write_if_absent("a/b", b"one")
    with s3.fault(method="PUT", status=500, after=True):
        write(store, "a/b", b"two")
    assert store.read("a/b") == b"two"


@pytest.mark.parametrize("status", [403, 401])
def test_a_store_that_denies_access_says_so_in_one_line(s3: S3Server, bucket: str, status: int) -> None:
    store = remote(bucket)
    write(store, "a/b", b"one")
    for call in everything(store):
        with (
            s3.fault(status=status),
            pytest.raises(StoreUnavailable, match=r"denies access to .*AWS_ACCESS_KEY_ID") as found,
        ):
            call()
        assert str(found.value).startswith(bucket)
        assert "\n" not in str(found.value)
        assert SECRET not in str(found.value)


def everything(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.read("a/b"),
        lambda: store.stamp("a/b"),
        lambda: store.write_if_absent("a/b", b"two"),
        lambda: write(store, "a/b", b"two"),
        lambda: store.folders(""),
        lambda: list(store.files("")),
        lambda: store.remove("a/b"),
    ]


def test_a_store_that_does_not_answer_is_away_after_its_timeout(s3: S3Server, bucket: str) -> None:
    store = remote(bucket, timeout=0.5)
    write(store, "a/b", b"one")
    with s3.paused():
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer") as found:
            store.read("a/b")
        assert time.monotonic() - started < 15
    assert "\n" not in str(found.value)
    until(lambda: store.read("a/b") == b"one", 60, "the store is back")


def test_a_bucket_that_does_not_exist_is_no_empty_one(s3: S3Server) -> None:
    store = remote("s3://there-is-no-such-bucket")
    # An answer to HEAD has no body that could say so.
    for call in (one for number, one in enumerate(everything(store)) if number != 1):
        with pytest.raises(StoreUnavailable, match=r"no such bucket|has no|does not answer"):
            call()


def test_credentials_are_in_no_message(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = open_store(Location(bucket + "/elsewhere", timeout=0.2))
    for call in everything(store):
        with pytest.raises(StoreUnavailable) as found:
            call()
        assert SECRET not in str(found.value)
        assert SECRET not in repr(found.value.__context__)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET


def test_without_the_extra_a_url_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreUnavailable, match=r"some-bucket can.t be read: obstore is not installed: pip install"):
        open_store(Location("s3://some-bucket", timeout=7.0))


def test_azure_without_an_account_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreUnavailable, match="Account must be specified") as found:
        open_store(Location("az://some-container"))
    assert "\n" not in str(found.value)
