"""The items that are recommended."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from api.problems import Problem
from api.schemas import Item, ItemDescription, ItemId, ItemList, Text
from api.services import Services
from api.strict_json import StrictJSONRoute
from recstream.db.tables import items
from recstream.messages.identifiers import is_identifier

router = APIRouter(prefix="/v1/items", tags=["items"], route_class=StrictJSONRoute)

_MAX_IDS = 200


def _ids(text: str | None) -> str | None:
    if text is not None and not all(is_identifier(part) for part in text.split(",")):
        raise ValueError("ids are separated by commas, each 1-64 visible characters")
    return text


@router.get("")
async def find(
    services: Services,
    ids: Annotated[str | None, AfterValidator(_ids), Query(description="Ids, separated by commas.")] = None,
    title: Annotated[Text | None, Query(description="Part of a title, in any case.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MAX_IDS)] = 50,
) -> ItemList:
    """Find items by ids, in the order given, or by title, the shortest first."""
    if (ids is None) == (title is None):
        raise Problem(422, "invalid-request", "Give either ids or title.")
    query = select(items.c.item_id, items.c.title, items.c.genres)
    wanted: list[str] = []
    if ids is not None:
        wanted = list(dict.fromkeys(ids.split(",")))
        if len(wanted) > _MAX_IDS:
            raise Problem(422, "invalid-request", f"At most {_MAX_IDS} ids at once.")
        query = query.where(items.c.item_id.in_(wanted))
    else:
        assert title is not None
        query = query.where(func.lower(items.c.title).contains(title.lower(), autoescape=True))
        query = query.order_by(func.length(items.c.title), items.c.title).limit(limit)
    async with services.engine.connect() as connection:
        found = [Item.model_validate(row._mapping) for row in await connection.execute(query)]
    if wanted:
        found.sort(key=lambda item: wanted.index(item.item_id))
    return ItemList(items=found)


@router.put("/{item_id}")
async def put(services: Services, item_id: Annotated[ItemId, Path()], body: ItemDescription) -> Item:
    """Create an item or replace its description."""
    values = {"title": body.title, "genres": body.genres, "updated_at": func.now()}
    async with services.engine.begin() as connection:
        await connection.execute(
            insert(items)
            .values(item_id=item_id, **values)
            .on_conflict_do_update(index_elements=[items.c.item_id], set_=values)
        )
    return Item(item_id=item_id, title=body.title, genres=body.genres)
