"""MovieLens sets in the forms in which they are given away, and RecBole's atomic files."""

from pathlib import Path

from recstream.messages.activity import EventType
from seeder.problem import SeedingProblem
from seeder.records import Catalogue
from seeder.tabular import InteractionColumns, ItemColumns, Table, TableFormat, TableSource

USER_PREFIX = "user_"
"""The sets number users and items alike; with the prefix a user is never taken for an item, and user_1 is there too."""

_GENRES_OF_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

_RATINGS_FORMATS = {
    ".csv": TableFormat(",", quoted=True),
    ".dat": TableFormat("::", header=False, width=4),
    ".data": TableFormat("\t", header=False, width=4),
    ".inter": TableFormat("\t", typed_header=True),
}
_ITEMS_FORMATS = {
    ".csv": TableFormat(",", quoted=True),
    ".dat": TableFormat("::", header=False, width=3, latin1=True),
    "u.item": TableFormat("|", header=False, width=24, latin1=True),
    ".item": TableFormat("\t", typed_header=True),
}
_COMPANIONS = {"ratings.csv": "movies.csv", "ratings.dat": "movies.dat", "u.data": "u.item"}
"""The names that the sets themselves use."""


def open_movielens(path: Path, items: Path | None, rejects_dir: Path) -> TableSource:
    """Return the set at `path`: its folder, or its file of ratings.

    `items` names the file of titles where it is not the set's own companion beside the ratings. Raises SeedingProblem
    for a folder without exactly one set in it, and for a file whose form is not known.
    """
    if not path.exists():
        raise SeedingProblem(f"{path} does not exist.")
    ratings = _ratings_in(path) if path.is_dir() else path
    form = _RATINGS_FORMATS.get(ratings.suffix)
    if form is None:
        raise SeedingProblem(
            f"{ratings.name} is in no form of MovieLens ({', '.join(_RATINGS_FORMATS)}); use --source csv for others."
        )
    items = items or _companion(ratings)
    return TableSource(
        Catalogue("movielens", _set_name(ratings)),
        (ratings, form, _rating_columns),
        None if items is None else (items, _items_form(items), _item_columns),
        rejects_dir,
    )


def _ratings_in(folder: Path) -> Path:
    found = [folder / name for name in _COMPANIONS if (folder / name).is_file()]
    found += [file for file in sorted(folder.glob("*.inter")) if file.with_suffix(".item").is_file()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SeedingProblem(
            f"{folder} holds none of ratings.csv, ratings.dat, u.data and NAME.inter with NAME.item; "
            "name the file of ratings itself, and that of titles with --items."
        )
    names = ", ".join(file.name for file in found)
    raise SeedingProblem(f"{folder} holds several sets ({names}); name one of these files instead of the folder.")


def _companion(ratings: Path) -> Path | None:
    name = f"{ratings.stem}.item" if ratings.suffix == ".inter" else _COMPANIONS.get(ratings.name)
    if name is None:
        return None
    companion = ratings.with_name(name)
    return companion if companion.is_file() else None


def _set_name(ratings: Path) -> str:
    if ratings.name in _COMPANIONS:
        return ratings.resolve().parent.name
    return ratings.stem.removesuffix("ratings").rstrip("_-. ") or ratings.resolve().parent.name


def _items_form(items: Path) -> TableFormat:
    form = _ITEMS_FORMATS.get(items.name) or _ITEMS_FORMATS.get(items.suffix)
    if form is None:
        raise SeedingProblem(f"{items.name} is in no form of MovieLens ({', '.join(_ITEMS_FORMATS)}).")
    return form


def _rating_columns(table: Table) -> InteractionColumns:
    if table.path.suffix == ".csv":
        user, item, rating, time = "userId", "movieId", "rating", "timestamp"
    elif table.path.suffix == ".inter":
        user, item, rating, time = "user_id", "item_id", "rating", "timestamp"
        if not table.has(rating):
            return InteractionColumns(user, item, time, user_prefix=USER_PREFIX)
    else:
        user, item, rating, time = "1", "2", "3", "4"
    return InteractionColumns(
        user, item, time, weight=rating, fixed_event_type=EventType.RATING, user_prefix=USER_PREFIX
    )


def _item_columns(table: Table) -> ItemColumns:
    if table.path.name == "u.item":
        return ItemColumns("1", "2", genre_flags={str(at): genre for at, genre in _FLAGS.items()})
    match table.path.suffix:
        case ".csv":
            return ItemColumns("movieId", "title", "genres")
        case ".dat":
            return ItemColumns("1", "2", "3")
    title = _first_of(table, "movie_title", "title", "name")
    genres = _first_of(table, "class", "genres", "genre", "categories")
    return ItemColumns("item_id", title or "title", genres, genre_separator=" ", year=_first_of(table, "release_year"))


_FLAGS = {at: genre for at, genre in enumerate(_GENRES_OF_100K, start=6) if genre != "unknown"}
"""u.item's genre columns: after number, title, release date, video release date and address."""


def _first_of(table: Table, *names: str) -> str | None:
    return next((name for name in names if table.has(name)), None)
