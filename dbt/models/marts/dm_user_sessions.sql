{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

-- Half an hour before the first day is enough to tell whether its first acts begin a session or go on with one.
with activity as (
    select * from {{ ref("int_user_activity") }}
    {{ where_since("created_at", first_day, margin="30 minutes") }}
),

steps as (
    select
        user_id,
        created_at,
        interactions,
        requests,
        coalesce(created_at - lag(created_at) over by_time > interval '30 minutes', true) as begins
    from activity
    window by_time as (partition by user_id order by created_at)
),

numbered as (
    select *, count(*) filter (where begins) over (partition by user_id order by created_at) as session_number
    from steps
),

sessions as (
    select
        (min(created_at) at time zone 'UTC')::date as report_date,
        user_id,
        min(created_at) as started_at,
        max(created_at) as ended_at,
        extract(epoch from max(created_at) - min(created_at))::double precision as length_seconds,
        sum(interactions)::bigint as interactions,
        sum(requests)::bigint as requests,
        {{ build_moment() }} as computed_at
    from numbered
    group by user_id, session_number
)

select * from sessions
{% if first_day %} where report_date >= '{{ first_day }}' {% endif %}
