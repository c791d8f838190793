{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with prediction_items as (
    select * from {{ ref("stg_prediction_items") }}
    {{ where_requested_since(first_day) }}
),

interactions as (
    select * from {{ ref("stg_interactions") }}
    {{ where_since("created_at", first_day, margin="1 hour") }}
),

recommended as (
    select * from prediction_items where user_id is not null
),

-- The recommended items that their user met again within 24 hours: few, so that the rest is joined to them cheaply.
met as (
    select
        recommended.request_id,
        recommended.rank,
        interactions.event_type,
        interactions.created_at,
        interactions.interaction_id
    from recommended
    inner join interactions
        on recommended.user_id = interactions.user_id
        and recommended.item_id = interactions.item_id
        and interactions.created_at >= recommended.completed_at
        and interactions.created_at < recommended.completed_at + interval '24 hours'
),

first_takings as (
    select distinct on (request_id, rank) request_id, rank, created_at as taken_at, event_type as taken_by
    from met
    where event_type in ('view', 'like', 'purchase', 'rating')
    order by request_id, rank, created_at, interaction_id
),

dismissals as (
    select distinct request_id, rank from met where event_type = 'dismiss'
)

select
    recommended.request_date as report_date,
    recommended.request_id,
    recommended.rank,
    recommended.item_id,
    recommended.user_id,
    recommended.model_version,
    recommended.source,
    recommended.score,
    recommended.completed_at as recommended_at,
    first_takings.request_id is not null as taken,
    first_takings.taken_at,
    first_takings.taken_by,
    dismissals.request_id is not null as dismissed,
    recommended.completed_at + interval '24 hours' <= {{ build_moment() }} as outcome_final,
    {{ build_moment() }} as computed_at
from recommended
left join first_takings
    on recommended.request_id = first_takings.request_id and recommended.rank = first_takings.rank
left join dismissals
    on recommended.request_id = dismissals.request_id and recommended.rank = dismissals.rank
