{{ config(materialized="incremental", incremental_strategy="replace_days") }}
{% set first_day = first_day() %}

with user_days as (
    select * from {{ ref("dm_user_daily") }}
    {% if first_day %} where report_date >= '{{ first_day }}' {% endif %}
),

requests as (
    select * from {{ ref("stg_requests") }}
    {{ where_requested_since(first_day) }}
),

predictions as (
    select * from {{ ref("stg_predictions") }}
    {{ where_requested_since(first_day) }}
),

activity_days as (
    select report_date, count(*) as dau, sum(interactions)::bigint as interactions
    from user_days
    group by report_date
),

request_days as (
    select
        request_date as report_date,
        count(*) as total_requests,
        count(*) filter (where status = 'COMPLETED') as total_predictions,
        count(*) filter (where status = 'FAILED') as failed,
        count(*) filter (where status = 'EXPIRED') as expired,
        count(*) filter (where status = 'CANCELLED') as cancelled,
        count(*) filter (where status = 'PENDING') as pending
    from requests
    group by request_date
),

prediction_days as (
    select
        request_date as report_date,
        count(*) filter (where is_fallback) as fallback_predictions,
        avg(is_fallback::integer)::double precision as fallback_share,
        percentile_cont(0.5) within group (order by latency_ms) as p50_latency_ms,
        percentile_cont(0.95) within group (order by latency_ms) as p95_latency_ms
    from predictions
    group by request_date
)

select
    report_date,
    coalesce(activity_days.dau, 0) as dau,
    coalesce(activity_days.interactions, 0) as interactions,
    coalesce(request_days.total_requests, 0) as total_requests,
    coalesce(request_days.total_predictions, 0) as total_predictions,
    coalesce(request_days.failed, 0) as failed,
    coalesce(request_days.expired, 0) as expired,
    coalesce(request_days.cancelled, 0) as cancelled,
    coalesce(request_days.pending, 0) as pending,
    coalesce(prediction_days.fallback_predictions, 0) as fallback_predictions,
    prediction_days.fallback_share,
    prediction_days.p50_latency_ms,
    prediction_days.p95_latency_ms,
    {{ build_moment() }} as computed_at
from activity_days
full join request_days using (report_date)
full join prediction_days using (report_date)
