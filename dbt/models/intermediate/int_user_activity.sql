with interactions as (
    select * from {{ ref("stg_interactions") }}
),

requests as (
    select * from {{ ref("stg_requests") }}
)

select user_id, created_at, interaction_date as activity_date, 1 as interactions, 0 as requests
from interactions
union all
select user_id, created_at, request_date, 0, 1
from requests
where user_id is not null
