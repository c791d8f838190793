with predictions as (
    select * from {{ ref("stg_predictions") }}
)

select
    predictions.request_id,
    ranked.rank::integer as rank,
    ranked.item ->> 'item_id' as item_id,
    (ranked.item ->> 'score')::double precision as score,
    predictions.user_id,
    predictions.model_version,
    predictions.source,
    predictions.created_at,
    predictions.completed_at,
    predictions.request_date
from predictions
cross join lateral jsonb_array_elements(predictions.items) with ordinality as ranked (item, rank)
