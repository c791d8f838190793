"""What people did: taken in, handed to Kafka, and only then acknowledged."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Header

from api.problems import unavailable
from api.publisher import NotDelivered, Outgoing
from api.schemas import Interaction, InteractionBatch, InteractionsAccepted
from api.services import Services
from api.strict_json import StrictJSONRoute
from recstream.kafka.spans import sending
from recstream.messages.activity import InteractionRecorded
from recstream.messages.codec import encode
from recstream.messages.envelope import event_headers
from recstream.messages.topics import ACTIVITY_EVENTS
from recstream.ops.clock import utc_now
from recstream.ops.traceparent import valid_traceparent

router = APIRouter(prefix="/v1/interactions", tags=["interactions"], route_class=StrictJSONRoute)


@router.post("", status_code=202)
async def record(
    body: Interaction | InteractionBatch,
    services: Services,
    traceparent: Annotated[str | None, Header(description="W3C trace context, handed on.")] = None,
) -> InteractionsAccepted:
    """Record one interaction or a batch. 202 means that the broker has all of them."""
    given = body.interactions if isinstance(body, InteractionBatch) else [body]
    events = [_event(interaction) for interaction in given]
    # One span for all of them: they are sent, and acknowledged, together.
    span = sending(services.tracer, ACTIVITY_EVENTS.name, valid_traceparent(traceparent))
    try:
        with span:
            await services.publisher.send_all([_outgoing(event, span.traceparent) for event in events])
    except NotDelivered as error:
        raise unavailable("Kafka did not confirm the interactions; send them again with their event_id.") from error
    return InteractionsAccepted(event_ids=[event.event_id for event in events])


def _event(interaction: Interaction) -> InteractionRecorded:
    return InteractionRecorded(
        event_id=interaction.event_id or uuid.uuid4(),
        user_id=interaction.user_id,
        item_id=interaction.item_id,
        event_type=interaction.event_type,
        occurred_at=interaction.occurred_at or utc_now(),
        weight=interaction.weight,
    )


def _outgoing(event: InteractionRecorded, traceparent: str | None) -> Outgoing:
    headers = event_headers(InteractionRecorded, "api", event_id=str(event.event_id), traceparent=traceparent)
    return Outgoing(ACTIVITY_EVENTS.name, event.user_id.encode(), encode(event), headers)
