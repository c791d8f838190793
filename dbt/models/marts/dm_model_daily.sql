{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with predictions as (
    select * from {{ ref("stg_predictions") }}
    {{ where_requested_since(first_day) }}
),

prediction_items as (
    select * from {{ ref("stg_prediction_items") }}
    {{ where_requested_since(first_day) }}
),

click_through as (
    select * from {{ ref("dm_click_through_daily") }}
    {% if first_day %} where report_date >= '{{ first_day }}' {% endif %}
),

volumes as (
    select
        request_date as report_date,
        model_version,
        count(*) as predictions,
        count(*) filter (where is_fallback) as fallback_predictions,
        avg(is_fallback::integer)::double precision as fallback_share,
        {% for stage in ["queued", "batch_wait", "inference", "total"] %}
        percentile_cont(0.5) within group (order by {{ stage }}_ms) as p50_{{ stage }}_ms,
        percentile_cont(0.95) within group (order by {{ stage }}_ms) as p95_{{ stage }}_ms
        {%- if not loop.last %},{% endif %}
        {% endfor %}
    from predictions
    group by request_date, model_version
),

scores as (
    select request_date as report_date, model_version, avg(score) as mean_score
    from prediction_items
    group by request_date, model_version
),

takings as (
    select
        report_date,
        model_version,
        sum(final_items)::bigint as final_items,
        sum(taken_items)::bigint as taken_items
    from click_through
    group by report_date, model_version
)

select
    report_date,
    model_version,
    volumes.predictions,
    volumes.fallback_predictions,
    volumes.fallback_share,
    volumes.p50_queued_ms,
    volumes.p95_queued_ms,
    volumes.p50_batch_wait_ms,
    volumes.p95_batch_wait_ms,
    volumes.p50_inference_ms,
    volumes.p95_inference_ms,
    volumes.p50_total_ms,
    volumes.p95_total_ms,
    scores.mean_score,
    coalesce(takings.final_items, 0) as final_items,
    coalesce(takings.taken_items, 0) as taken_items,
    takings.taken_items::double precision / nullif(takings.final_items, 0) as ctr,
    {{ build_moment() }} as computed_at
from volumes
left join scores using (report_date, model_version)
left join takings using (report_date, model_version)
