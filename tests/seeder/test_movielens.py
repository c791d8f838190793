import shutil
from pathlib import Path

import pytest

from seeder.movielens import open_movielens
from seeder.problem import SeedingProblem
from seeder.records import Catalogue, Interaction, Item
from seeder.sources import Source

RATINGS = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n2,10,4.0,835355493\n",
    "ratings.dat": b"1::31::2.5::1260759144\n2::10::4::835355493\n",
    "u.data": b"1\t31\t2.5\t1260759144\n2\t10\t4\t835355493\n",
    "small.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    b"1\t31\t2.5\t1260759144\n2\t10\t4\t835355493.0\n",
}
ITEMS = {
    "ratings.csv": ("movies.csv", 'movieId,title,genres\n31,"Misérables, Les (1995)",Crime|Drama\n'
                    "10,Plain (1990),(no genres listed)\n".encode()),
    "ratings.dat": ("movies.dat", b"31::Mis\xe9rables, Les (1995)::Crime|Drama\n10::Plain (1990)::\n"),
    "u.data": ("u.item", b"31|Mis\xe9rables, Les (1995)|01-Jan-1995||http|0|0|0|0|0|0|1|0|1|0|0|0|0|0|0|0|0|0|0\n"
               b"10|Plain (1990)||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"),
    "small.inter": ("small.item", "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                    "31\tMisérables, Les\t1995\tCrime Drama\n10\tPlain\t1990\t\n".encode()),
}  # fmt: skip
EXPECTED = [
    Interaction("user_1", "31", "rating", 2.5, 1_260_759_144_000_000),
    Interaction("user_2", "10", "rating", 4.0, 835_355_493_000_000),
]
EXPECTED_ITEMS = [Item("31", "Misérables, Les (1995)", ("Crime", "Drama")), Item("10", "Plain (1990)", ())]


def rows_of(source: Source) -> list[Interaction]:
    feed = source.interactions()
    try:
        return [
            Interaction(*row)
            for block in feed.rows
            for row in zip(
                block.user_ids, block.item_ids, block.event_types, block.weights, block.created_us, strict=True
            )
        ]
    finally:
        if feed.rejects is not None:
            feed.rejects.close()


def items_of(source: Source) -> list[Item] | None:
    feed = source.items()
    if feed is None:
        return None
    items = list(feed.rows)
    if feed.rejects is not None:
        feed.rejects.close()
    return items


@pytest.fixture(params=RATINGS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "ml-test"
    folder.mkdir()
    (folder / request.param).write_bytes(RATINGS[request.param])
    items, content = ITEMS[request.param]
    (folder / items).write_bytes(content)
    return folder


def _ratings(folder: Path) -> Path:
    return next(file for file in folder.iterdir() if file.name in RATINGS)


def test_every_form_by_its_folder(folder: Path, tmp_path: Path) -> None:
    source = open_movielens(folder, None, tmp_path)
    assert rows_of(source) == EXPECTED
    assert items_of(source) == EXPECTED_ITEMS
    name = "small" if _ratings(folder).suffix == ".inter" else "ml-test"
    assert source.catalogue == Catalogue("movielens", name)


def test_every_form_by_its_file_finds_the_companion(folder: Path, tmp_path: Path) -> None:
    source = open_movielens(_ratings(folder), None, tmp_path)
    assert (rows_of(source), items_of(source)) == (EXPECTED, EXPECTED_ITEMS)


def test_without_a_companion_there_are_no_titles(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / _ratings(folder).name
    shutil.copy(_ratings(folder), alone)
    source = open_movielens(alone, None, tmp_path)
    assert (rows_of(source), items_of(source)) == (EXPECTED, None)


def test_files_of_other_names(tmp_path: Path) -> None:
    (tmp_path / "ml-latest-small_ratings.csv").write_bytes(RATINGS["ratings.csv"])
    (tmp_path / "titles.csv").write_bytes(ITEMS["ratings.csv"][1])
    source = open_movielens(tmp_path / "ml-latest-small_ratings.csv", tmp_path / "titles.csv", tmp_path)
    assert source.catalogue == Catalogue("movielens", "ml-latest-small")
    assert (rows_of(source), items_of(source)) == (EXPECTED, EXPECTED_ITEMS)


def test_a_folder_is_taken_only_by_the_sets_own_names(tmp_path: Path) -> None:
    (tmp_path / "my_ratings.csv").write_bytes(RATINGS["ratings.csv"])
    (tmp_path / "lonely.inter").write_bytes(RATINGS["small.inter"])
    with pytest.raises(SeedingProblem, match="holds none of ratings"):
        open_movielens(tmp_path, None, tmp_path)


def test_a_folder_with_two_sets_is_refused(tmp_path: Path) -> None:
    for name in ("ratings.csv", "ratings.dat"):
        (tmp_path / name).write_bytes(RATINGS[name])
    with pytest.raises(SeedingProblem, match=r"several sets \(ratings.csv, ratings.dat\)"):
        open_movielens(tmp_path, None, tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.txt").write_text("1 2 3 4\n")
    with pytest.raises(SeedingProblem, match="no form of MovieLens"):
        open_movielens(tmp_path / "ratings.txt", None, tmp_path)
    with pytest.raises(SeedingProblem, match="does not exist"):
        open_movielens(tmp_path / "nothing.csv", None, tmp_path)


def test_a_csv_with_other_columns_names_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,movie\n1,2\n")
    with pytest.raises(SeedingProblem, match="no column 'userId'; its columns are: user, movie"):
        open_movielens(tmp_path / "ratings.csv", None, tmp_path).interactions()


@pytest.mark.parametrize(
    ("ratings", "items", "rows", "titles", "example"),
    [
        ("ml-100k.inter", "ml-100k.item", 100_000, 1_682, Item("50", "Star Wars (1977)", ())),
        (
            "ml-latest-small_ratings.csv",
            "ml-latest-small_movies.csv",
            100_004,
            9_125,
            Item("1", "Toy Story (1995)", ()),
        ),
    ],
)
def test_the_public_sets(
    shared_data: Path, tmp_path: Path, ratings: str, items: str, rows: int, titles: int, example: Item
) -> None:
    source = open_movielens(shared_data / ratings, shared_data / items, tmp_path)
    assert len(rows_of(source)) == rows
    found = {item.item_id: item for item in items_of(source) or []}
    assert len(found) == titles
    assert found[example.item_id].title == example.title
    assert list(tmp_path.iterdir()) == [], "nothing rejected"


def test_the_public_titles_of_the_million_set(shared_data: Path, tmp_path: Path) -> None:
    """They are in ISO 8859-1."""
    (tmp_path / "ratings.dat").write_bytes(RATINGS["ratings.dat"])
    items = items_of(open_movielens(tmp_path / "ratings.dat", shared_data / "ml-1m_movies.dat", tmp_path)) or []
    assert len(items) == 3_883
    assert any("é" in item.title for item in items)
