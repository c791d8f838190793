{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with user_sessions as (
    select * from {{ ref("dm_user_sessions") }}
    {% if first_day %} where report_date >= '{{ first_day }}' {% endif %}
)

select
    report_date,
    count(*) as sessions,
    count(distinct user_id) as users,
    avg(length_seconds) as mean_length_seconds,
    percentile_cont(0.5) within group (order by length_seconds) as p50_length_seconds,
    percentile_cont(0.95) within group (order by length_seconds) as p95_length_seconds,
    avg(interactions + requests)::double precision as mean_actions,
    {{ build_moment() }} as computed_at
from user_sessions
group by report_date
