{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with interactions as (
    select * from {{ ref("stg_interactions") }}
    {{ where_since("created_at", first_day) }}
),

prediction_items as (
    select * from {{ ref("stg_prediction_items") }}
    {{ where_requested_since(first_day) }}
),

outcomes as (
    select * from {{ ref("dm_recommendation_outcomes") }}
    {% if first_day %} where report_date >= '{{ first_day }}' {% endif %}
),

interaction_days as (
    select
        interaction_date as report_date,
        item_id,
        count(*) as interactions,
        count(distinct user_id) as users,
        count(*) filter (where event_type = 'view') as views,
        count(*) filter (where event_type = 'like') as likes,
        count(*) filter (where event_type = 'purchase') as purchases,
        count(*) filter (where event_type = 'rating') as ratings,
        count(*) filter (where event_type = 'dismiss') as dismissals
    from interactions
    group by interaction_date, item_id
),

recommended_days as (
    select
        request_date as report_date,
        item_id,
        count(*) as recommended,
        avg(rank)::double precision as mean_rank
    from prediction_items
    group by request_date, item_id
),

outcome_days as (
    select
        report_date,
        item_id,
        count(*) as final_items,
        count(*) filter (where taken) as taken_items,
        avg(taken::integer)::double precision as ctr
    from outcomes
    where outcome_final
    group by report_date, item_id
)

select
    report_date,
    item_id,
    coalesce(interaction_days.interactions, 0) as interactions,
    coalesce(interaction_days.users, 0) as users,
    coalesce(interaction_days.views, 0) as views,
    coalesce(interaction_days.likes, 0) as likes,
    coalesce(interaction_days.purchases, 0) as purchases,
    coalesce(interaction_days.ratings, 0) as ratings,
    coalesce(interaction_days.dismissals, 0) as dismissals,
    coalesce(recommended_days.recommended, 0) as recommended,
    recommended_days.mean_rank,
    coalesce(outcome_days.final_items, 0) as final_items,
    coalesce(outcome_days.taken_items, 0) as taken_items,
    outcome_days.ctr,
    {{ build_moment() }} as computed_at
from interaction_days
full join recommended_days using (report_date, item_id)
full join outcome_days using (report_date, item_id)
