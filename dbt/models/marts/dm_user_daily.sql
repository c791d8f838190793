{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with activity as (
    select * from {{ ref("int_user_activity") }}
    {{ where_since("created_at", first_day) }}
)

select
    activity_date as report_date,
    user_id,
    sum(interactions)::bigint as interactions,
    sum(requests)::bigint as requests,
    {{ build_moment() }} as computed_at
from activity
group by activity_date, user_id
