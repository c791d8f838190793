"""Public sets in the forms in which they are given away."""

from itertools import pairwise
from pathlib import Path

import pytest

from trainer.files import read_file
from trainer.interactions import Interactions
from trainer.refusal import TrainingRefused


def histories(data: Interactions) -> list[list[str]]:
    return [[data.item_ids[code - 1] for code in data.codes[start:end]] for start, end in pairwise(data.offsets)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_line_an_event_keeps_the_files_order(tmp_path: Path) -> None:
    data = read_file(write(tmp_path / "set.txt", "1 30\n2 9\n1 10\n\n1 20\n2 30\n"))
    assert histories(data) == [["30", "10", "20"], ["9", "30"]]
    assert data.times is None
    assert data.window.last_at is None


def test_a_line_a_user(tmp_path: Path) -> None:
    data = read_file(write(tmp_path / "set.txt", "7 30 10 20\n8 10\n9 5 30\n"))
    assert histories(data) == [["30", "10", "20"], ["10"], ["5", "30"]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.csv", 'userId,movieId,rating,timestamp\n1,"a",5,30\n2,b,4,7\n1,c,3,10\n1,b,3,30.5\n1,d,1,30\n'),
        ("ratings.dat", "1::a::5::30\n2::b::4::7\n1::c::3::10\n1::b::3::30.5\n1::d::1::30\n"),
        ("u.data", "1\ta\t5\t30\n2\tb\t4\t7\n1\tc\t3\t10\n1\tb\t3\t30.5\n1\td\t1\t30\n"),
        (
            "set.inter",
            "rating:float\ttimestamp:float\tuser_id:token\titem_id:token\r\n"
            "5\t30\t1\ta\r\n4\t7\t2\tb\r\n3\t10\t1\tc\r\n3\t30.5\t1\tb\r\n1\t30\t1\td\r\n",
        ),
    ],
)
def test_ratings_stand_in_the_order_of_time_and_ties_in_that_of_the_file(tmp_path: Path, name: str, text: str) -> None:
    data = read_file(write(tmp_path / name, text))
    assert histories(data) == [["c", "a", "d", "b"], ["b"]]
    assert data.times is not None
    assert data.times.tolist() == [10_000_000, 30_000_000, 30_000_000, 30_500_000, 7_000_000]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("set.parquet", "", "none of the endings that are known"),
        ("set.txt", "", "holds no interaction"),
        ("set.txt", "1 2 3\n1 4 5\n", "entry 2 is neither"),
        ("set.txt", "1 2 3\n7\n", "entry 2 is neither"),
        ("ratings.csv", "user,item\n1,2\n", "no column userId"),
        ("ratings.csv", "userId,movieId,timestamp\n1,2\n", "entry 2 has 2 fields, not 3"),
        ("ratings.csv", "userId,movieId,timestamp\n1,2,soon\n", "could not convert"),
        ("ratings.csv", 'userId,movieId,timestamp\n1,"2,3\n', "not in the form"),
        ("ratings.dat", "1::2::3::inf\n", "not in the form"),
    ],
)
def test_another_form_is_refused_in_a_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(TrainingRefused, match=sentence):
        read_file(write(tmp_path / name, text))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="cannot be read: No such file"):
        read_file(tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"1 \xff\n")
    with pytest.raises(TrainingRefused, match="not in the form"):
        read_file(tmp_path / "bytes.txt")


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [
        ("ml-1m_sas.txt", 6_040, 3_416, 999_611),
        ("s3_Beauty.txt", 22_363, 12_101, 198_502),
        ("ml-100k.inter", 943, 1_682, 100_000),
    ],
)
def test_the_public_sets_have_their_published_sizes(
    shared_data: Path, name: str, users: int, items: int, interactions: int
) -> None:
    data = read_file(shared_data / name)
    assert (data.n_users, data.n_items, len(data.codes)) == (users, items, interactions)
