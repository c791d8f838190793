with user_days as (
    select * from {{ ref("dm_user_daily") }}
),

users as (
    select user_id, cohort_week from {{ ref("dm_user_activity") }}
),

cohorts as (
    select cohort_week, count(*) as cohort_users from users group by cohort_week
),

active as (
    select
        users.cohort_week,
        (date_trunc('week', user_days.report_date::timestamp)::date - users.cohort_week) / 7 as week_number,
        count(distinct user_id) as active_users
    from user_days
    inner join users using (user_id)
    group by 1, 2
),

-- A week in which nobody of a cohort came back is a zero, not a missing row.
last_week as (
    select max(date_trunc('week', report_date::timestamp)::date) as week_start from user_days
),

weeks as (
    select cohorts.cohort_week, cohorts.cohort_users, week_number
    from cohorts
    cross join last_week
    cross join lateral generate_series(
        0, least((last_week.week_start - cohorts.cohort_week) / 7, {{ var("retention_weeks") | int }})
    ) as numbers (week_number)
)

select
    cohort_week,
    week_number,
    weeks.cohort_users,
    coalesce(active.active_users, 0) as active_users,
    coalesce(active.active_users, 0)::double precision / weeks.cohort_users as retention,
    cohort_week + 7 * (week_number + 1) <= ({{ build_moment() }} at time zone 'UTC')::date as week_complete
from weeks
left join active using (cohort_week, week_number)
