with predictions as (
    select * from {{ source("recstream", "predictions") }}
)

select
    request_id,
    tenant,
    user_id,
    status,
    error_type,
    created_at,
    completed_at,
    (created_at at time zone 'UTC')::date as request_date
from predictions
