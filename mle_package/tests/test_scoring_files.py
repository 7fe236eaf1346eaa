"""Files are scored row by row as requests are, and an interrupted scoring ends as if nothing had happened."""

import fcntl
import gzip
import json
import os

import msgspec
import pytest

from machine_learning_engineering.core.faults import MachineFaultError
from machine_learning_engineering.prediction_log.rows import score_rows
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.scoring import lines as line_reader
from machine_learning_engineering.scoring import run, scorer
from machine_learning_engineering.scoring.inputs import InputRefused, find_inputs
from machine_learning_engineering.scoring.journal import OutputRefused, PartRecord
from machine_learning_engineering.scoring.run import PART_BATCHES, score_files
from machine_learning_engineering.scoring.scorer import Scorer

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ds = pytest.importorskip("pyarrow.dataset")

ROWS = 500
BATCH = 7


@pytest.fixture
def registry(doubler, tmp_path):
    found = Registry(tmp_path / "registry")
    found.save(doubler, metrics={"r2": 1.0}, training_data_sha256="", seed=1)
    found.promote("doubler", "v1")
    yield found
    scorer._opened.cache_clear()


@pytest.fixture
def score(registry, doubler, tmp_path):
    """Scores files into the folder ``out``, in small batches."""

    def call(*sources, name="doubler", out="out", batch_rows=BATCH, keep=None, **options):
        used = Scorer(name, registry=registry.path, model_class=type(doubler), batch_rows=batch_rows, keep=keep)
        return score_files(used, [str(one) for one in sources], tmp_path / out, **options)

    return call


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    return path


def rows_of(count=ROWS, **changes):
    """Rows with all that may be refused among them."""
    rows = [
        {"id": f"o{n}", "number": float(n % 101), "unit": "km" if n % 2 else None, "count": n % 9, "double": 2.0 * n}
        for n in range(count)
    ]
    for at, number in ((3, 200.0), (77, None), (401, -1.0)):
        if at < count:
            rows[at]["number"] = number
    return [row | changes for row in rows]


def write_parquet(path, rows, **options):
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("number", pa.float64()),
            ("unit", pa.string()),
            ("count", pa.int64()),
            ("double", pa.float64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path, **options)
    return path


def read(out, format="parquet"):
    return ds.dataset(out, format=format).to_table().to_pylist()


def snapshot(out):
    """Every file of an output but the report, which has a duration."""
    files = [one for one in sorted(out.rglob("*")) if one.is_file() and one.name not in ("_summary.json", ".lock")]
    return {str(one.relative_to(out)): one.read_bytes() for one in files}


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl", "csv.gz"])
def test_rows_of_every_format_get_the_answers_of_requests(score, folder, tmp_path, doubler, kind):
    rows = rows_of()
    path = folder / f"orders.{kind}"
    if kind == "parquet":
        write_parquet(path, rows, row_group_size=64)
    elif kind == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, 50)
    elif kind == "jsonl":
        path.write_bytes(
            b"\n".join(map(msgspec.json.encode, [{k: v for k, v in r.items() if v is not None} for r in rows]))
        )
    else:
        lines = [
            "id,number,unit,count,double",
            *(",".join("" if v is None else str(v) for v in r.values()) for r in rows),
        ]
        content = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)

    report = score(path, format="jsonl", label="double")

    names = ("number", "unit", "count")
    requests = [{name: row[name] for name in names if row[name] is not None} for row in rows]
    expected = score_rows(doubler, [msgspec.json.encode(one) for one in requests], 1.0)
    lines = [line for part in sorted((tmp_path / "out").glob("part-*")) for line in part.read_bytes().splitlines()]
    found = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in lines]
    assert [bytes(one["prediction"]) for one in found] == [bytes(one.encoded) for one in expected if not one.error]
    first = 2 if kind.startswith("csv") else 1
    wanted = [(f"o{n}", n + first) for n, one in enumerate(expected) if not one.error]
    assert [(json.loads(bytes(one["id"])), json.loads(bytes(one["input_row"]))) for one in found] == wanted
    refused = [
        json.loads(line)
        for one in sorted((tmp_path / "out/_refused").iterdir())
        for line in one.read_text().splitlines()
    ]
    assert [(one["input_row"], one["kept"]["id"], one["error"]["message"]) for one in refused] == [
        (n + first, f"o{n}", one.error.message) for n, one in enumerate(expected) if one.error
    ]
    assert (report.rows, report.scored, report.refused, report.kept) == (ROWS, ROWS - 3, 3, ["id", "double"])
    assert report.features == {name: name for name in names}
    assert report.absent == ["note"]
    assert report.labelled == ROWS - 3
    assert report.metrics["mae"].mean > 0


def test_each_format_of_output_holds_the_same(score, folder, tmp_path):
    path = write_parquet(folder / "a.parquet", rows_of())
    reports = [score(path, out=kind, format=kind) for kind in ("parquet", "csv", "jsonl")]
    assert len({(one.rows, one.refused, tuple(one.reasons)) for one in reports}) == 1
    whole = read(tmp_path / "parquet")
    assert list(whole[0]) == ["input_file", "input_row", "model_version", "id", "double", "prediction.double"]
    csv = ds.dataset(tmp_path / "csv", format="csv").to_table().to_pylist()
    assert [one["prediction.double"] for one in csv] == [one["prediction.double"] for one in whole]
    lines = [
        json.loads(line)
        for part in sorted((tmp_path / "jsonl").glob("part*"))
        for line in part.read_text().splitlines()
    ]
    assert [one["prediction"]["double"] for one in lines] == [one["prediction.double"] for one in whole]
    assert {one["model_version"] for one in whole} == {"v1"}


def test_lines_that_are_no_rows_are_refused_with_their_number(score, folder, tmp_path):
    (folder / "a.jsonl").write_text('{"number":1}\n\n[2]\n{"number":3\n{"number":4,"id":"x"}\n{"number":NaN}\n')
    (folder / "b.csv").write_text('number,id\n1,a\n2\n3,"c\nd"\n4,e\n')
    report = score(folder)
    refused = [
        json.loads(line)
        for one in sorted((tmp_path / "out/_refused").iterdir())
        for line in one.read_text().splitlines()
    ]
    assert [(one["input_row"], one["error"]["type"]) for one in refused] == [
        (3, "unreadable"),
        (4, "unreadable"),
        (6, "unreadable"),
        (3, "unreadable"),
    ]
    assert (report.scored, report.refused) == (5, 4)
    assert [one["id"] for one in read(tmp_path / "out")] == [None, "x", "a", "c\nd", "e"]


def test_nested_and_flattened_columns_are_features_by_their_declared_path(registry, doubler, folder, tmp_path):
    """As an adopted version declares them, of whatever file."""
    declaration = (
        b'[model]\nname = "doubler"\nanswer = { double = "predict" }\n[features]\n'
        b'number = { type = "float", from = "order.amount" }\ncount = { type = "int", from = "order.n.items" }\n'
    )
    version = registry.save(doubler, metrics={}, training_data_sha256="", seed=1, declaration=declaration)
    used = Scorer(f"doubler:{version}", registry=registry.path, model_class=type(doubler))
    nested = [{"order": {"amount": float(n), "n": {"items": n}}, "id": n} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(nested), folder / "nested.parquet")
    (folder / "nested.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, nested)))
    pq.write_table(pa.table({"order.amount": [1.0], "order.n.items": [1.0], "id": [9]}), folder / "flat.parquet")
    (folder / "flat.csv").write_text("order.amount,order.n.items,id\n2,2,9\n")
    for name, doubles in (
        ("nested.parquet", [0, 2, 4, 6, 8]),
        ("nested.jsonl", [0, 2, 4, 6, 8]),
        ("flat.parquet", [2]),
        ("flat.csv", [4]),
    ):
        report = score_files(used, [str(folder / name)], tmp_path / name.replace(".", "-"))
        assert (report.refused, report.kept) == (0, ["id"])
        assert report.features == {"number": "order.amount", "count": "order.n.items"}
        found = [one["prediction.double"] for one in read(tmp_path / name.replace(".", "-"))]
        assert found == pytest.approx(doubles)


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_folders_and_patterns_are_read_by_name_without_hidden_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "b" / "_temporary").mkdir(parents=True)
    for name in ("b/2.csv", "b/1.csv.gz", "a.parquet", ".hidden.csv", "_SUCCESS", "b/_temporary/x.csv"):
        (folder / name).write_bytes(b"")
    assert [one.path for one in find_inputs(["b/"])] == ["b/1.csv.gz", "b/2.csv"]
    assert [one.path for one in find_inputs(["*.parquet", "b/*.csv"])] == ["a.parquet", "b/2.csv"]
    assert [one.path for one in find_inputs([str(folder)])] == [
        f"{folder}/a.parquet",
        f"{folder}/b/1.csv.gz",
        f"{folder}/b/2.csv",
    ]
    assert [one.path for one in find_inputs(["**/*.csv"])] == ["b/2.csv"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["nothing.csv"], "nothing.csv: there is no such file"),
        (["*.orc"], "quote patterns"),
        (["a.csv", "*.csv"], "a.csv is among the inputs twice"),
        (["notes.txt"], r"notes.txt is not one of \.arrow, \.csv"),
        (["ftp://user:secret@host/a.csv"], "ftp://host/a.csv can't be opened"),
        (["empty.csv"], "empty.csv: the file has no column `number`"),
        (["other.csv"], "other.csv: the file has no column `number`.*: rename `nummer`, if it is that"),
        (["twice.csv"], "twice.csv: line 1.*must name each column once"),
        (["damaged.parquet"], "damaged.parquet: "),
        (["named.csv"], "column `model_version` has the name of a column of the output"),
        (["a.csv", "a.parquet"], "column `id` is string in a.csv, and int64 in a.parquet"),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, list) else "",
)
def test_an_input_that_cannot_be_scored_is_refused_before_anything_is_written(
    score, folder, tmp_path, monkeypatch, sources, message
):
    monkeypatch.chdir(folder)
    (folder / "a.csv").write_text("number,id\n1,x\n")
    (folder / "notes.txt").write_text("x")
    (folder / "empty.csv").write_text("")
    (folder / "other.csv").write_text("nummer\n1\n")
    (folder / "twice.csv").write_text("number,number\n1,1\n")
    (folder / "damaged.parquet").write_bytes(b"PAR1" + b"x" * 50 + b"PAR1")
    (folder / "named.csv").write_text("number,model_version\n1,1\n")
    pq.write_table(pa.table({"number": [1.0], "id": [1]}), folder / "a.parquet")
    with pytest.raises(InputRefused, match=message) as caught:
        score(*sources)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_columns_to_keep_and_the_label_have_to_be_there(score, folder, tmp_path):
    path = write_parquet(folder / "a.parquet", rows_of(20))
    with pytest.raises(InputRefused, match=r"no input has a column `ids` \(--keep\): there are count, double, id"):
        score(path, keep=["ids"])
    with pytest.raises(InputRefused, match=r"no input has a column `price` \(--label\)"):
        score(path, label="price")
    assert score(path, keep=["number"], label="double").kept == ["number", "double"]
    assert list(read(tmp_path / "out")[0])[3:5] == ["number", "double"]


def test_a_file_that_breaks_off_is_named_and_what_was_scored_stays(score, folder, tmp_path):
    path = write_parquet(folder / "a.parquet", rows_of(), row_group_size=BATCH * PART_BATCHES, compression="none")
    content = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(4).column(1).data_page_offset
    content[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(InputRefused, match=r"a.parquet can't be read to its end"):
        score(path)
    assert len(list((tmp_path / "out/_parts").iterdir())) >= 1
    assert not list((tmp_path / "out").rglob(".partial*"))


def test_a_file_that_is_one_array_is_not_read_into_memory(score, folder, monkeypatch):
    monkeypatch.setattr(line_reader, "MAX_LINE_BYTES", 1_000)
    (folder / "a.jsonl").write_text('{"number":1}\n[' + '{"number":1},' * 100)
    with pytest.raises(InputRefused, match=r"a.jsonl: line 2: it has more than 1,000 bytes: write one object per line"):
        score(folder)


def test_an_input_without_rows_has_an_output_with_its_columns(score, folder, tmp_path):
    report = score(write_parquet(folder / "a.parquet", []))
    assert (report.rows, report.scored) == (0, 0)
    assert "prediction.double" in pq.read_table(tmp_path / "out/part-00000-000000000000.parquet").column_names


# --- interruptions ---------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stop_after(monkeypatch, name, calls):
    """Raise within the n-th call of a function of `run`'s file system layer."""
    owner, attribute = name
    real, count = getattr(owner, attribute), 0

    def counted(*arguments, **options):
        nonlocal count
        count += 1
        if count > calls:
            raise Stopped
        return real(*arguments, **options)

    monkeypatch.setattr(owner, attribute, counted)


@pytest.mark.parametrize("where", ["replacing", "write_refused", "finish", "score"])
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_scoring_that_stopped_anywhere_ends_with_the_same_files(score, folder, tmp_path, monkeypatch, where, calls):
    a = write_parquet(folder / "a.parquet", rows_of(300), row_group_size=50)
    b = write_parquet(folder / "b.parquet", rows_of(112))  # A multiple of a part.
    score(a, b, out="whole", label="double")
    owners = {"replacing": run.files, "write_refused": run.Journal, "finish": run.Journal, "score": Scorer}
    with monkeypatch.context() as patched:
        stop_after(patched, (owners[where], where), calls)
        with pytest.raises(Stopped):
            score(a, b, label="double")
    report = score(a, b, label="double")
    assert report.rows == 412
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_what_is_finished_is_not_scored_again(score, folder, monkeypatch, tmp_path):
    path = write_parquet(folder / "a.parquet", rows_of())
    first = score(path)
    before = snapshot(tmp_path / "out")
    monkeypatch.setattr(Scorer, "score", lambda *_: pytest.fail("scored again"))
    again = score(path)
    assert (again.resumed, again.reasons, again.rows) == (ROWS, first.reasons, ROWS)
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("damage", ["cut", "removed", "record", "left"])
def test_a_part_that_is_not_as_it_was_written_is_made_again(score, folder, tmp_path, damage):
    path = write_parquet(folder / "a.parquet", rows_of())
    score(path)
    before = snapshot(tmp_path / "out")
    part = sorted((tmp_path / "out").glob("part-*"))[1]
    if damage == "cut":
        os.truncate(part, 100)
    elif damage == "removed":
        part.unlink()
    elif damage == "record":
        (tmp_path / "out/_parts" / f"{part.stem}.json").unlink()
    else:
        (tmp_path / "out/.partial-123").write_bytes(b"half")
    score(path)
    assert snapshot(tmp_path / "out") == before


def test_another_run_than_the_one_begun_is_refused_with_the_fix(score, folder, tmp_path, registry, doubler):
    path = write_parquet(folder / "a.parquet", rows_of(50))
    other = write_parquet(folder / "b.parquet", rows_of(50))
    score(path)
    registry.save(doubler, metrics={}, training_data_sha256="", seed=2)
    for options, message in (
        ({"name": "doubler:v2"}, "begun with doubler v1, not doubler v2: go on with --model doubler:v1, give a new"),
        ({"format": "csv"}, "begun with another --format"),
        ({"batch_rows": 8}, "begun with another --batch-rows"),
        ({"label": "double"}, "begun with another --label"),
        ({"keep": ["id"]}, "begun with another --keep"),
    ):
        with pytest.raises(OutputRefused, match=message):
            score(path, **options)
    with pytest.raises(OutputRefused, match=r"was begun without .*b.parquet: give a new folder with -o"):
        score(path, other)
    with pytest.raises(OutputRefused, match=r"was begun without .*b.parquet"):
        score(other)
    os.utime(path, (1, 1))
    with pytest.raises(OutputRefused, match=r"a.parquet has changed since it was begun: .*--no-resume"):
        score(path)
    assert score(path, name="doubler:v2", resume=False).version == "v2"
    assert {one["model_version"] for one in read(tmp_path / "out")} == {"v2"}


def test_a_folder_of_others_is_left_alone(score, folder, tmp_path):
    path = write_parquet(folder / "a.parquet", rows_of(5))
    with pytest.raises(OutputRefused, match=r"has other files, such as a.parquet"):
        score(path, out="in")
    with pytest.raises(OutputRefused, match="is a file"):
        score(path, out="in/a.parquet")
    out = tmp_path / "out"
    score(path)
    with (out / ".lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputRefused, match="another process scores into it"):
            score(path)
    (out / "_manifest.json").write_bytes(b"{}")
    with pytest.raises(OutputRefused, match=r"_manifest.json is damaged"):
        score(path)


def test_a_fault_of_the_machine_ends_the_run_and_refuses_no_row(score, folder, tmp_path, doubler, monkeypatch):
    path = write_parquet(folder / "a.parquet", rows_of())
    answer, calls = type(doubler).predict, 0

    def failing(self, rows):
        nonlocal calls
        calls += 1
        if calls > 20:
            raise ConnectionError("away")
        return answer(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(type(doubler), "predict", failing)
        patched.setattr(scorer, "FAULT_SECONDS", 0.01)
        with pytest.raises(MachineFaultError):
            score(path)
    assert [
        msgspec.json.decode(one.read_bytes(), type=PartRecord).refused for one in (tmp_path / "out/_parts").iterdir()
    ] == [2]
    assert score(path).refused == 3
