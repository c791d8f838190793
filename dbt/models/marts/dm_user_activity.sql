with user_days as (
    select * from {{ ref("dm_user_daily") }}
),

user_sessions as (
    select * from {{ ref("dm_user_sessions") }}
),

days as (
    select
        user_id,
        min(report_date) as first_day,
        max(report_date) as last_day,
        count(*) as active_days,
        sum(interactions)::bigint as interactions,
        sum(requests)::bigint as requests
    from user_days
    group by user_id
),

sessions as (
    select user_id, count(*) as sessions, avg(length_seconds) as mean_session_seconds
    from user_sessions
    group by user_id
)

select
    user_id,
    days.first_day,
    days.last_day,
    date_trunc('week', days.first_day::timestamp)::date as cohort_week,
    days.active_days,
    coalesce(sessions.sessions, 0) as sessions,
    days.interactions,
    days.requests,
    sessions.mean_session_seconds
from days
left join sessions using (user_id)
