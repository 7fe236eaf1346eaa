"""Where examples come from, and what is said when they can't be had."""

import hashlib
import os
import tempfile
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.training.records import SourceUnreadable
from machine_learning_engineering.training.sources import collect

CSV = "number,unit,count,note,label\n1.5,km,3,,3\n2,m,,abc,4\n"
JSONL = (
    '{"number": 1.5, "unit": "km", "count": 3, "label": 3}\n\n'
    '{"features": {"number": 2, "note": "abc"}, "label": 4, "group": "g"}\n'
)


@pytest.fixture
def read(doubler_class, settings):
    """The records of sources, as (number, features, label, group)."""

    def read(*sources: object):
        found = collect(doubler_class, settings, [str(source) for source in sources])
        return [(one.number, msgspec.json.decode(one.features), one.label, one.group) for one in found.records]

    return read


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cells_become_what_their_fields_take_and_empty_ones_are_left_out(read, tmp_path):
    assert read(write(tmp_path / "new.csv", CSV)) == [
        (2, {"number": 1.5, "unit": "km", "count": 3}, b"3", None),
        (3, {"number": 2, "unit": "m", "note": "abc"}, b"4", None),
    ]


def test_lines_of_json_are_flat_or_hold_their_features_apart(read, tmp_path):
    assert read(write(tmp_path / "new.jsonl", JSONL)) == [
        (1, {"number": 1.5, "unit": "km", "count": 3}, b"3", None),
        (3, {"number": 2, "note": "abc"}, b"4", "g"),
    ]


def test_a_group_may_be_a_whole_number_and_is_then_its_text(read, tmp_path):
    """As in a CSV file, so that rows of one group in several files stay together."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"group": [7, None], "number": [1, 2], "label": [2, 4]}), tmp_path / "c.parquet")
    write(tmp_path / "b.jsonl", '{"number": 1, "label": 2, "group": 7}\n{"features": {}, "label": 4, "group": null}\n')
    write(tmp_path / "a.csv", "number,label,group\n1,2,7\n2,4,\n")
    assert [group for _, _, _, group in read(tmp_path)] == ["7", None] * 3


def test_a_feature_named_group_is_no_group(doubler_class, settings, tmp_path):
    """In no kind of file: rows of one value may be split."""

    class Grouped(doubler_class):
        Features = msgspec.defstruct("GroupedFeatures", [("number", float), ("group", str)])

    write(tmp_path / "a.csv", "number,group,label\n1,x,2\n")
    write(tmp_path / "b.jsonl", '{"number": 1, "group": "x", "label": 2}\n')
    for record in collect(Grouped, settings, [str(tmp_path)]).records:
        assert msgspec.json.decode(record.features) == {"number": 1, "group": "x"}
        assert record.group is None


def test_a_column_without_a_name_is_named_as_what_it_is(read, doubler_class, tmp_path, monkeypatch):
    """Except by a model that reads lines by itself."""
    path = write(tmp_path / "new.csv", ",number,label\n0,1,2\n1,2,4\n")
    with pytest.raises(SourceUnreadable, match=r"line 2: a column has no name, .* omit it with to_csv\(index=False"):
        read(path)
    monkeypatch.setattr(doubler_class, "example_from_csv_row", lambda line: Example({"number": int(line["number"])}, 2))
    assert [features for _, features, _, _ in read(path)] == [{"number": 1}, {"number": 2}]


def test_a_parquet_file_is_a_source_and_so_is_a_layer(read, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"record": [0], "group": ["g"], "number": [1.5], "note": ["abc"], "label": [3.0]})
    pq.write_table(table, tmp_path / "new.parquet")
    assert read(tmp_path / "new.parquet") == [(1, {"number": 1.5, "note": "abc"}, b"3.0", "g")]


def test_the_files_of_a_folder_are_read_by_name_and_several_sources_in_order(read, tmp_path, doubler_class):
    folder = tmp_path / "new"
    folder.mkdir()
    write(folder / "b.jsonl", '{"number": 2, "label": 4}\n')
    write(folder / "a.csv", "number,label\n1,2\n")
    write(folder / ".hidden", "no matter")
    assert [features["number"] for _, features, _, _ in read(folder)] == [1, 2]
    together = read("dataset", folder)
    assert len(together) == len(list(doubler_class.examples())) + 2
    assert together[-1][1] == {"number": 2}


def test_raw_files_are_kept_by_their_digests(doubler_class, settings, tmp_path):
    path = write(tmp_path / "new.csv", CSV)
    [source] = collect(doubler_class, settings, [str(path)]).sources
    assert source.sha256 == hashlib.sha256(CSV.encode()).hexdigest()
    assert (source.name, source.rows) == (str(path), 2)
    assert Path(source.kept).read_text() == CSV
    assert Path(source.kept).is_relative_to(settings.layers_dir / "raw" / source.sha256)


def test_the_digest_is_that_of_the_records_wherever_they_come_from(doubler_class, settings, tmp_path):
    one = write(tmp_path / "one.csv", "number,label\n1,2\n2,4\n")
    other = write(tmp_path / "other.jsonl", '{"number":1,"label":2}\n{"number":2,"label":4}\n')
    digests = {collect(doubler_class, settings, [str(path)]).sha256 for path in (one, other)}
    given = [Example({"number": 1}, 2), Example({"number": 2}, 4)]
    assert digests == {collect(doubler_class, settings, [], examples=given).sha256}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("new.csv", "", "has no examples"),
        ("new.csv", "number,label\n", "has no examples"),
        ("new.csv", "number,label\n1,2,3\n", "line 2: it does not have 2 cells like the header"),
        ("new.csv", "number,label\n1,2\n3\n", "line 3: it does not have 2 cells"),
        ("new.csv", "number,label\n1,\n", "line 2: there is no label in the column `label`"),
        ("new.csv", "number\n1\n", "line 2: there is no label in the column `label`"),
        ("new.csv", 'number,label\n1,"2\n', "line 2: unexpected end of data"),
        ("new.csv", b"number,label\n\xff,2\n", "line 2: not UTF-8, but probably Latin-1"),
        ("new.jsonl", '{"number": 1}\n', "line 1: there is no label in `label`"),
        ("new.jsonl", '{"number": 1, "label": 2}\n{"number"\n', "line 2: "),
        ("new.jsonl", "[1]\n", "line 1: Expected `object`"),
        ("new.jsonl", '{"number": 1, "label": 2, "group": 1.5}\n', "line 1: `group` must be a string or an integer"),
        ("new.jsonl", '{"number": 1, "label": 2, "group": true}\n', "line 1: `group` must be a string or an integer"),
        ("new.csv", ",label\n1,2,3\n", "line 2: it does not have 2 cells like the header"),
        ("new.parquet", "no parquet", "can't be read: not a parquet file"),
        ("new.xlsx", "", "is not one of .csv, .jsonl, .ndjson, .parquet"),
    ],
)
def test_what_can_not_be_read_is_named_with_its_line(read, tmp_path, name, content, message):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = write(tmp_path / name, content)
    with pytest.raises(SourceUnreadable, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_a_path_that_is_not_there_and_an_empty_folder_are_named(read, tmp_path):
    with pytest.raises(SourceUnreadable, match="nowhere is neither a file nor a folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceUnreadable, match=r"the folder .*empty has no files"):
        read(tmp_path / "empty")


def test_a_folder_that_may_not_be_read_is_an_error_of_the_system(doubler_class, settings):
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        write(folder / "new.csv", CSV)
        folder.chmod(0)
        if user == 0:
            os.seteuid(65_534)  # Root may read everything.
        with pytest.raises(PermissionError, match=str(folder)):
            collect(doubler_class, settings, [str(folder)])
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
        (folder / "new.csv").unlink()
        folder.rmdir()
