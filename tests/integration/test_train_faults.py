"""Whatever fails in `inflight train`, bad data or a full disk, is named, and the champion stays."""

import json
import resource
import shutil
import subprocess

import pytest

from machine_learning_engineering.registry.registry import Registry
from tests.support.train_shell import passengers


def test_bad_data_is_named_by_line_and_field(shell, tmp_path, champion):
    path = passengers(tmp_path / "new.csv", 50, spoil={"Fare": "-3"})
    done = shell.train("titanic", "-ds", path)
    assert done.returncode == 1
    assert "titanic was not trained, its champion stays:\n1 of 50 records are invalid:\n" in done.stderr
    assert f"{path} line 51: feature `fare` must be a number of at least 0" in done.stderr
    assert shell.champion() == champion
    assert shell.log()[-1]["outcome"] == "failed"


@pytest.mark.parametrize("source", ["nowhere", "empty", "elasticsearch:nowhere.csv"])
def test_a_source_that_can_not_be_read_is_named(shell, tmp_path, champion, source):
    (tmp_path / "empty").mkdir()
    done = shell.train("titanic", "-ds", source)
    assert done.returncode == 1
    assert "titanic was not trained" in done.stderr
    assert "Traceback" not in done.stderr
    assert source.rpartition(":")[2] in done.stderr
    assert shell.champion() == champion


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("log", "error: there is no prediction log at "),
        ("elasticsearch", "error: the prediction log http://127.0.0.1:1 can't be read: "),
    ],
)
def test_a_log_that_is_away_is_told_once_and_ends_with_2(shell, champion, source, message):
    """Every model would be trained on it. The code is that of all commands whose surroundings are away."""
    shell.environment["INFLIGHT_ELASTICSEARCH_URL"] = "http://127.0.0.1:1"
    done = shell.train("titanic", "diamonds", "-ds", source, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (2, [])
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert ("is Elasticsearch running? `inflight status` shows it" in done.stderr) == (source == "elasticsearch")
    assert shell.champion() == champion
    assert shell.log()[-1]["error"].startswith("LogUnreadable: ")


def files_are_limited_to(size: int):
    """Makes the kernel refuse to write files beyond a size, as it does on a full disk; run in the child."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("size", "kept"), [(20_000, 0), (200_000, 1)], ids=["a layer", "a model"])
def test_files_that_can_not_be_written_are_an_error(shell, champion, size, kept):
    """Layers of the Titanic are larger than 20 kB, and all of its models but the linear one are larger than 200 kB."""
    before = Registry(shell.home / "history").versions("titanic")
    done = shell.train("titanic", "-n", 2, preexec_fn=files_are_limited_to(size))
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.champion() == champion
    left = [path for path in shell.home.rglob("*") if path.name.startswith((".partial", ".saving"))]
    assert left == []
    assert len(Registry(shell.home / "history").versions("titanic")) == len(before) + kept
    assert shell.log()[-1]["error"].startswith("OSError: [Errno 27] File too large")


@pytest.mark.parametrize("flag", ["-dt", "-mt", "-lt", "-st"])
def test_a_full_disk_is_an_error_for_each_target(shell, tmp_path, champion, flag):
    disk = tmp_path / "disk"
    disk.mkdir()
    own_mounts = ("unshare", "--user", "--map-root-user", "--mount")
    script = 'mount -t tmpfs -o size=8k none "$0" && head -c 8192 /dev/zero > "$0/filler"; exec "$@"'
    probe = [*own_mounts, "sh", "-c", 'mount -t tmpfs -o size=8k none "$0"', str(disk)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a test mount a disk of its own")
    target = disk / "log.jsonl" if flag == "-lt" else disk
    done = shell.train("titanic", "-n", 1, flag, target, before=(*own_mounts, "sh", "-c", script, str(disk)))
    assert done.returncode == 1, done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.champion() == champion
    if flag == "-lt":
        assert "The training log could not be written either" in done.stderr
    else:
        assert "No space left on device" in shell.log()[-1]["error"]


def test_other_models_are_trained_although_one_fails(shell, tmp_path):
    path = passengers(tmp_path / "new.csv", 60)
    done = shell.train("diamonds", "titanic", "-ds", path, "-n", 1, "--json")
    assert done.returncode == 1
    assert "diamonds was not trained" in done.stderr
    assert [entry["model"] for entry in json.loads(done.stdout)] == ["titanic"]
