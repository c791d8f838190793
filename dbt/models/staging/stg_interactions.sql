-- A client that retries with a new event_id sends the same act twice: same user, item, type and moment. The first one to
-- arrive counts. created_at is among the keys, so a condition on it reaches the table below.
with interactions as (
    select * from {{ source("recstream", "interactions") }}
)

select distinct on (user_id, item_id, event_type, created_at)
    id as interaction_id,
    event_id,
    user_id,
    item_id,
    event_type,
    weight,
    created_at,
    (created_at at time zone 'UTC')::date as interaction_date
from interactions
order by user_id, item_id, event_type, created_at, id
