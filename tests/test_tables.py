"""Tables as people have them: what is read is the numbers that were written, what is decided is said, what is wrong is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.build import check
from diffsde.cli.main import composed, main
from diffsde.datasets import tables
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.natural_order import naturally
from diffsde.datasets.tables import Table, read_table
from diffsde.errors import UserError
from diffsde.runs.train_config import train_choices

CASES = Path(__file__).parent / "data" / "tables"
MEAN, STD = (5.06, -1.90), (0.96, 2.89)  # of the cases, as their maker gives them
RANDOM = np.random.default_rng(3)
POINTS = RANDOM.normal(2, 1, (40, 2)).round(3)
ROWS = [f"{a:.3f},{b:.3f}" for a, b in POINTS]
IRIS = ["sepal length (cm),petal,species", *(f"{a:.3f},{b:.3f},{'vir' if a > 2 else 'set'}" for a, b in POINTS)]


def table(folder: Path, text: str | bytes, name: str = "t.csv", **words: Any) -> Table:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(file, **words)


def refused(folder: Path, text: str | bytes, *words: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        table(folder, text, **options)
    said = str(caught.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said
    return said


# The cases with their right values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("numbers-as-header.csv", "line 1 (0,1) was read as the columns' names"),
        ("index-column.csv", "its first column (index) has row numbers and was left out"),
        ("semicolons.csv", "separated by semicolons"),
    ],
)
def test_the_cases_have_their_200_points(name: str, said: str) -> None:
    found = read_table(CASES / name)
    assert found.values.shape == (200, 2) and found.values.dtype == np.float64
    np.testing.assert_allclose(found.values.mean(0), MEAN, atol=0.005)
    np.testing.assert_allclose(found.values.std(0), STD, atol=0.005)
    assert len(found.names) == 2 and any(said in note for note in found.notes)


def test_a_missing_cell_is_named_as_an_editor_counts() -> None:
    with pytest.raises(
        UserError, match=r"missing-cell.csv' line 7, column y: the cell is empty; 1 cell is missing in all"
    ):
        read_table(CASES / "missing-cell.csv")


# Headers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["0,1", "1,2", "2019,2020", "1000,2000", "x,y", "x,2020", " x , y "])
def test_a_header_is_no_point(tmp_path: Path, header: str) -> None:
    """Of words, of column numbers, years, or numbers far from the data; where it has numbers it is said."""
    found = table(tmp_path, "\n".join([header, *ROWS]))
    np.testing.assert_array_equal(found.values, POINTS)
    assert found.names == tuple(word.strip() for word in header.split(","))
    assert bool(found.notes) == any(character.isdigit() for character in header)


@pytest.mark.parametrize("first", ["3,7", "2.5,1", "1,1", "0.5,2"])
def test_a_first_point_is_no_header(tmp_path: Path, first: str) -> None:
    found = table(tmp_path, "\n".join([first, *ROWS]))
    np.testing.assert_array_equal(found.values[0], [float(word) for word in first.split(",")])
    assert len(found.values) == 41 and found.names == ()


def test_whole_numbers_among_whole_numbers_are_points_where_they_lie_with_them(tmp_path: Path) -> None:
    """0,1 above counts of 0 and 1 is a point; above counts of hundreds it is a header."""
    bits = RANDOM.integers(0, 2, (40, 2))
    rows = [f"{a},{b}" for a, b in bits]
    assert len(table(tmp_path, "\n".join(["0,1", *rows])).values) == 41
    rows = [f"{a},{b}" for a, b in 100 + 7 * bits]
    assert len(table(tmp_path, "\n".join(["0,1", *rows])).values) == 40


def test_a_sequence_keeps_its_first_point(tmp_path: Path) -> None:
    """t and 1 - t from 0, written as short as can be: 0,1 begins it, and that this was a choice is said."""
    rows = [f"{i / 20:g},{1 - i / 20:g}" for i in range(20)]
    found = table(tmp_path, "\n".join(rows))
    np.testing.assert_allclose(found.values[:, 0], np.arange(20) / 20)
    assert "line 1 (0,1) was read as a point (dataset.header=true" in found.notes[0]
    assert len(table(tmp_path, "\n".join(rows), header="true").values) == 19


def test_the_header_can_be_told(tmp_path: Path) -> None:
    text = "\n".join(["0,1", *ROWS])
    np.testing.assert_array_equal(table(tmp_path, text, header="false").values[0], [0, 1])
    assert len(table(tmp_path, "\n".join(ROWS), header="true").values) == 39
    refused(
        tmp_path, "x,y\n1,2\n3,4\n", "line 1, column 0", "'x' is not a number", "dataset.header=true", header="false"
    )


def test_names_in_a_comment_are_names(tmp_path: Path) -> None:
    """As numpy.savetxt writes them."""
    np.savetxt(tmp_path / "t.csv", POINTS, delimiter=",", header="mass,speed")
    found = read_table(tmp_path / "t.csv")
    np.testing.assert_array_equal(found.values, POINTS)
    assert found.names == ("mass", "speed")


# The index of a data frame ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "index", "Unnamed: 0", '""'])
@pytest.mark.parametrize("start", [0, 1, 17])
def test_row_numbers_are_left_out_and_said(tmp_path: Path, name: str, start: int) -> None:
    text = "\n".join([f"{name},x,y", *(f"{i},{row}" for i, row in enumerate(ROWS, start))])
    found = table(tmp_path, text)
    np.testing.assert_array_equal(found.values, POINTS)
    assert found.names == ("x", "y") and "row numbers and was left out" in found.notes[0]
    [columns] = re.findall(r"dataset.columns=\[(.*)\]", found.notes[0]) or [""]
    kept = table(tmp_path, text, columns=("0", "x", "y"))
    np.testing.assert_array_equal(kept.values[:, 0], start + np.arange(40))
    if " " not in name:
        np.testing.assert_array_equal(table(tmp_path, text, columns=tuple(columns.split(","))).values, kept.values)


def test_a_frame_of_an_array_has_names_that_are_numbers(tmp_path: Path) -> None:
    """,0,1: both its index and its header, and columns=[index,0,1] means what the message says it does."""
    text = "\n".join([",0,1", *(f"{i},{row}" for i, row in enumerate(ROWS))])
    found = table(tmp_path, text)
    np.testing.assert_array_equal(found.values, POINTS)
    assert "'dataset.columns=[index,0,1]' keeps it" in found.notes[-1]
    kept = table(tmp_path, text, columns=("index", "0", "1")).values
    np.testing.assert_array_equal(kept, np.column_stack([np.arange(40), POINTS]))


def test_an_index_that_was_shuffled_and_one_of_r(tmp_path: Path) -> None:
    shuffled = "\n".join([",x,y", *(f"{i * 7 % 41},{row}" for i, row in enumerate(ROWS))])
    np.testing.assert_array_equal(table(tmp_path, shuffled).values, POINTS)
    of_r = "\n".join(['"x" "y"', *(f'"{i}" {row}'.replace(",", " ") for i, row in enumerate(ROWS, 1))])
    found = table(tmp_path, of_r, "t.txt")
    np.testing.assert_array_equal(found.values, POINTS)
    assert found.names == ("x", "y")


def test_a_column_that_counts_under_another_name_is_kept_and_said(tmp_path: Path) -> None:
    for header in (["time,x,y"], []):
        found = table(tmp_path, "\n".join([*header, *(f"{i},{row}" for i, row in enumerate(ROWS))]))
        assert found.values.shape == (40, 3) and "counts the rows, and was kept" in found.notes[-1]
    assert table(tmp_path, "\n".join(["x,y", *ROWS])).notes == ()


# Separators and numbers ---------------------------------------------------------------------------------------------------


def test_a_sequence_of_one_column(tmp_path: Path) -> None:
    """0 above 0.1, 0.2, ... begins it; above numbers of another kind it is the name that a data frame gives its only column."""
    assert len(table(tmp_path, "0\n" + "".join(f"{i / 10:g}\n" for i in range(1, 30))).values) == 30
    found = table(tmp_path, "0\n" + "".join(f"{a}\n" for a in POINTS[:, 0]))
    np.testing.assert_array_equal(found.values[:, 0], POINTS[:, 0])


@pytest.mark.parametrize(
    ("separator", "name", "said"),
    [
        (",", "t.csv", ""),
        (";", "t.csv", "semicolons"),
        ("\t", "t.tsv", ""),
        ("\t", "t.csv", "tabs"),
        ("|", "t.txt", "vertical bars"),
        ("   ", "t.txt", "spaces"),
        (" , ", "t.csv", ""),
    ],
)
@pytest.mark.parametrize("header", ["x,y", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_are_found_and_named(
    tmp_path: Path, separator: str, name: str, said: str, header: str, end: str
) -> None:
    lines = [line.replace(",", separator) for line in [header, *ROWS]]
    found = table(tmp_path, end.join(lines) + end, name)
    np.testing.assert_array_equal(found.values, POINTS)
    assert found.names == (("x", "y") if header else ())
    assert (said in " ".join(found.notes)) if said else found.notes == ()


def test_decimal_commas_are_read_where_nothing_else_is_meant(tmp_path: Path) -> None:
    rows = [row.replace(",", ";").replace(".", ",") for row in ROWS]
    found = table(tmp_path, "\n".join(["x;y", "0,5;1,25", *rows]))
    np.testing.assert_array_equal(found.values[1:], POINTS)
    assert found.values[0].tolist() == [0.5, 1.25] and "decimal commas" in found.notes[-1]
    refused(tmp_path, "x;y\n1,234;5\n2,345;6\n", "'1,234', which may be 1.234 or 1234")
    refused(tmp_path, "x;y\n1,5;2\n2,25;3.5\n", "line 2, column x: '1,5' has a decimal comma, others have not")
    refused(tmp_path, "x;y\n" + "1,5;2\n" * 1100 + "1.5;2\n", "line 1102", "no number with a decimal comma")


@pytest.mark.parametrize("cell", ["1,234.5", "1,234,567", "1 234 567", "1'234", "1_000"])
def test_thousands_separators_are_refused(tmp_path: Path, cell: str) -> None:
    refused(tmp_path, f'x,y\n1,2\n"{cell}",3\n', "line 3, column x", "separators between thousands", "1234.5")


def test_quoted_numbers_and_cells_of_several_lines(tmp_path: Path) -> None:
    assert table(tmp_path, '"x","y"\n"1.5","-2"\n"3e2", "4"\n').values.tolist() == [[1.5, -2], [300, 4]]
    text = '"speed\nof wind",y\n\n# note, "with a quote\n1,2\n\n3,oops\n5,6\n7,8\n9,1\n'
    refused(tmp_path, text, "line 7, column y: 'oops' is not a number; correct it")
    assert table(tmp_path, text.replace("oops", "4")).names == ("speed of wind", "y")
    refused(tmp_path, "x,y\n" + '1,"2\n' + "3,4\n" * 5, "line 2", "a quote may be left open")


def test_encodings(tmp_path: Path) -> None:
    text = "\r\n".join(["x,y", *ROWS])
    for encoding, said in (("utf-8-sig", []), ("utf-16", ["its text is UTF-16"])):
        found = table(tmp_path, text.encode(encoding))
        np.testing.assert_array_equal(found.values, POINTS)
        assert list(found.notes) == said and found.names == ("x", "y")
    found = table(tmp_path, text.replace("x,", "µ,").encode("cp1252"))
    assert found.names == ("µ", "y") and found.notes == ("line 1 is not UTF-8, its text was read as Windows-1252",)
    refused(tmp_path, text.encode("utf-16-le"), "line 1: it has a zero byte", "UTF-8")
    refused(tmp_path, b"PK\x03\x04rest", "an Excel workbook")


def test_trailing_separators_and_excels_first_line(tmp_path: Path) -> None:
    for head in ("x,y,", "x,y"):
        found = table(tmp_path, "\n".join([head, *(row + "," for row in ROWS)]))
        np.testing.assert_array_equal(found.values, POINTS)
        assert found.names == ("x", "y")
    refused(tmp_path, "\n".join(["x,y", *(row + "," for row in ROWS * 30), "1,2,3"]), "line 1202: it has 3 values")
    assert table(tmp_path, "sep=;\nx;y\n1;2\n3;4\n").values.tolist() == [[1, 2], [3, 4]]
    assert table(tmp_path, "x,y\n1,2\n,\n\n3,4\n,,\n").values.tolist() == [[1, 2], [3, 4]]


def test_uneven_lines_are_named(tmp_path: Path) -> None:
    refused(tmp_path, "x,y\n1,2\n\n3,4,5\n6,7\n", "line 4: it has 3 values, the others 2")
    refused(tmp_path, "x,y\n1,2\n3\n6,7\n", "line 3: it has 1 value, the others 2")
    refused(tmp_path, "x,y,z\n1,2\n3,4\n", "line 1", "names of columns", "3", "line 2 are 2")


# Missing cells, words, dates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["", "NA", "nan", "NULL", "n/a", " "])
def test_missing_cells_are_counted(tmp_path: Path, cell: str) -> None:
    text = f"a,b,c\n1,2,3\n\n4,{cell},6\n{cell},8,9\n1,1,1\n"
    refused(tmp_path, text, "line 4, column b", "2 cells are missing in all", "'dataset.columns=[c]'")


def test_a_column_of_words(tmp_path: Path) -> None:
    """Is named with the columns of numbers, and may be the labels; asked for these columns, or these labels, it is read."""
    text = "\n".join(IRIS)
    refused(
        tmp_path, text, "line 2, column species", "is not a number", "dataset.columns=[0,1]", "dataset.labels=species"
    )
    np.testing.assert_array_equal(table(tmp_path, text, columns=("0", "1")).values, POINTS)
    refused(tmp_path, text, "'petals' is not a column (did you mean 'petal'?)", columns=("petals",))
    refused(
        tmp_path, "m,l\nkg,m\n1,2\n3,4\n5,6\n", "line 2, column m: the line (kg,m) has no numbers", "units, delete it"
    )
    refused(tmp_path, "t,x\n2020-01-31,1\n2020-02-01,2\n", "column t: '2020-01-31' is a date", "'dataset.columns=[x]'")
    refused(tmp_path, "x,y\n1,inf\n2,4\n", "line 2, column y: 'inf' is not finite")
    refused(tmp_path, "a,a\n1,2\n3,4\n", "2 columns are called 'a'; give a number", columns=("a",))


def test_labels_are_classes_in_natural_order(tmp_path: Path) -> None:
    text = "\n".join(IRIS)
    found = table(tmp_path, text, labels="species")
    np.testing.assert_array_equal(found.values, POINTS)
    assert found.classes == ("set", "vir") and found.y is not None and found.names == ("sepal length (cm)", "petal")
    np.testing.assert_array_equal(found.y, POINTS[:, 0] > 2)
    kinds = [["10", "2", "1"][i % 3] for i in range(40)]
    found = table(tmp_path, "\n".join(f"{row},{kind}" for row, kind in zip(ROWS, kinds, strict=True)), labels="2")
    assert found.classes == ("1", "2", "10") and found.y is not None and found.y[:3].tolist() == [2, 1, 0]
    refused(tmp_path, "\n".join(ROWS), "40 different values in 40 rows of column 1", labels="1")
    refused(tmp_path, text.replace("vir", ""), "column species", "missing in all", labels="species")


def test_natural_order() -> None:
    assert naturally(["10", "2", "1"]) == ["1", "2", "10"]
    assert naturally(["run10", "run9", "Run1b", "run1a", "run1"]) == ["run1", "run1a", "Run1b", "run9", "run10"]
    assert naturally(["b", "-1", "0.5", "a2", "a"]) == ["-1", "0.5", "a", "a2", "b"]


# Both ways to the same numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numbers-as-header.csv", "index-column.csv", "semicolons.csv"])
def test_the_short_way_and_the_careful_one_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any) -> Any:
        raise AssertionError("a clean file was read cell by cell")

    with monkeypatch.context() as patched:
        patched.setattr(tables, "_one_by_one", never)
        short = read_table(CASES / name)
    monkeypatch.setattr(tables, "_at_once", lambda *given: None)
    careful = read_table(CASES / name)
    np.testing.assert_array_equal(short.values, careful.values)
    assert short[1:3] == careful[1:3]


# Through the dataset and the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\n".join(IRIS), "a,b,c\n1,2,x\n3,,y\n4,5,z\n", "a b,2019\n1,x\n2,3\n4,5\n6,7\n"])
def test_the_advice_is_taken_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The words that a refusal gives are parsed as they stand, and the file is read with them."""
    monkeypatch.chdir(tmp_path)
    said = refused(tmp_path, text, "dataset.columns=[")
    advice = re.findall(r"'(dataset.columns=\[.*?\])'", said)
    for word in (*advice, *re.findall(r"dataset.labels=\w+", said)):
        words = [word] if word in advice else [word, advice[0]]
        chosen = train_choices(composed("train", ["dataset=array", "dataset.file=t.csv", *words]))
        found = chosen.dataset.load()
        assert len(found.x) > 1 and (word in advice or found.y is not None)


@pytest.mark.slow
def test_training_says_and_records_what_the_data_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("points.csv").write_text("\n".join([f",{IRIS[0]}", *(f"{i},{row}" for i, row in enumerate(IRIS[1:]))]))
    words = ["dataset=array", "dataset.file=points.csv", "dataset.labels=species"]
    quick = ["steps=2", "batch_size=8", "net.widths=[8]", "threads=1", "hydra.run.dir=run"]
    assert main(["train", *words, "dataset.conditional=true", *quick]) == 0
    said = capsys.readouterr().out
    assert (
        "data: 40 points of 2 coordinates (sepal length (cm), petal) from points.csv; 2 classes: 0 (set), 1 (vir)"
        in said
    )
    assert "data: its first column (index) has row numbers and was left out" in said
    data = json.loads(Path("run/summary.json").read_text())["data"]
    assert (data["points"], data["shape"], data["classes"], data["class_names"]) == (40, [2], 2, ["set", "vir"])
    assert (
        data["from"] == "points.csv" and data["columns"] == ["sepal length (cm)", "petal"] and len(data["notes"]) == 1
    )
    oracle = ["run=oracle", "path=ot", "n=20", "steps=2", "plots=false", "threads=1", "hydra.run.dir=exact"]
    assert main(["sample", *words, *oracle]) == 0
    assert "data: 40 points of 2 coordinates" in capsys.readouterr().out
    assert json.loads(Path("exact/summary.json").read_text())["data"]["points"] == 40


def test_a_y_that_nobody_asked_for_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And said; asked for, it is refused."""
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=POINTS, y=POINTS[:, 0])
    dataset = ArrayFile(file="a.npz")
    assert dataset.load().y is None and "its array y was left alone" in dataset.notes()[0]
    words = ["train", "dataset=array", "dataset.file=a.npz", "steps=2", "batch_size=8", "net.widths=[8]", "threads=1"]
    assert main([*words, "dataset.conditional=true"]) == 2
    assert "labels y of float64 and shape (40,); they must be whole numbers" in capsys.readouterr().err
    assert main([*words, "objective=classifier"]) == 2
    assert "its array y was left alone, as labels it does not fit: of float64" in capsys.readouterr().err
    assert main(words) == 0


def test_knobs_of_tables_are_of_tables(tmp_path: Path) -> None:
    for words, said in (
        ({"file": "x.npy", "columns": ("a",)}, "columns is of tables"),
        ({"file": "x.npy", "header": "true"}, "header is of tables"),
        ({"file": "x.csv", "header": "perhaps"}, "auto, true or false"),
        ({"file": "x.npy", "labels": "kind"}, "a .npy file, or a column of a table"),
    ):
        with pytest.raises(UserError, match=said):
            check(ArrayFile(**words))


def test_test_points_of_a_table_have_its_classes_and_columns(tmp_path: Path) -> None:
    """A class that is absent there keeps the others' numbers; an unknown one, or other columns, are refused."""
    (tmp_path / "a.csv").write_text("x,k\n" + "1,ape\n2,cat\n3,dog\n" * 9)
    (tmp_path / "b.csv").write_text("x,k\n4,dog\n5,cat\n6,dog\n")
    dataset = ArrayFile(file=str(tmp_path / "a.csv"), test=str(tmp_path / "b.csv"), labels="k")
    np.testing.assert_array_equal(dataset.held_out().y, [2, 1, 2])
    (tmp_path / "b.csv").write_text("x,k\n4,dog\n5,emu\n6,dog\n")
    with pytest.raises(UserError, match="has 'emu' in column k; the classes are ape, cat, dog"):
        dataset.held_out()
    (tmp_path / "b.csv").write_text("z,k\n4,dog\n5,cat\n6,dog\n")
    with pytest.raises(UserError, match=r"has columns z, '.*' has x"):
        dataset.held_out()
