{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with outcomes as (
    select * from {{ ref("dm_recommendation_outcomes") }}
    {% if first_day %} where report_date >= '{{ first_day }}' {% endif %}
)

select
    report_date,
    model_version,
    rank,
    count(*) as recommended_items,
    count(*) filter (where outcome_final) as final_items,
    count(*) filter (where outcome_final and taken) as taken_items,
    (avg(taken::integer) filter (where outcome_final))::double precision as ctr,
    {{ build_moment() }} as computed_at
from outcomes
group by report_date, model_version, rank
