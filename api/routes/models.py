"""Models that were made, which one is live, and which worker serves which."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path
from sqlalchemy import select

from api.problems import Problem, not_found
from api.schemas import Model, ModelList, Promotion, UserId, Worker, WorkerList
from api.services import Services
from recstream.db.tables import ml_models
from recstream.kafka.announcements import ModelPruned, UnknownModel

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
async def list_models(services: Services) -> ModelList:
    """List models, newest first."""
    query = select(ml_models).order_by(ml_models.c.created_at.desc(), ml_models.c.version)
    async with services.engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    return ModelList(models=[Model.model_validate(row._mapping) for row in rows])


@router.post("/models/{version}/promote")
async def promote(services: Services, version: Annotated[UserId, Path()]) -> Promotion:
    """Make a model live: roll back, or forward again. Workers change over by themselves."""
    try:
        announced = await asyncio.to_thread(services.promote, version)
    except UnknownModel:
        raise not_found("model") from None
    except ModelPruned:
        raise Problem(409, "model-pruned", "The model's files were removed to make room; train anew.") from None
    return Promotion(version=announced.model_version, generation=announced.generation)


@router.get("/workers")
async def list_workers(services: Services) -> WorkerList:
    """List workers with what each serves, as they report it."""
    return WorkerList(
        workers=[
            Worker.model_validate({**msgspec.structs.asdict(status), "alive": alive})
            for status, alive in services.workers.workers()
        ]
    )
