with predictions as (
    select * from {{ source("recstream", "predictions") }}
)

select
    request_id,
    user_id,
    created_at,
    completed_at,
    (created_at at time zone 'UTC')::date as request_date,
    (extract(epoch from completed_at - created_at) * 1000)::double precision as latency_ms,
    coalesce(model_version, result_json ->> 'model_version', 'unknown') as model_version,
    coalesce(result_json ->> 'source', 'unknown') as source,
    coalesce(result_json ->> 'source' = 'popularity', false) as is_fallback,
    result_json ->> 'reason' as reason,
    coalesce((result_json ->> 'history_length')::integer, 0) as history_length,
    coalesce((result_json ->> 'unknown_items')::integer, 0) as unknown_items,
    (result_json -> 'timings_ms' ->> 'queued')::double precision as queued_ms,
    (result_json -> 'timings_ms' ->> 'batch_wait')::double precision as batch_wait_ms,
    (result_json -> 'timings_ms' ->> 'inference')::double precision as inference_ms,
    (result_json -> 'timings_ms' ->> 'total')::double precision as total_ms,
    coalesce(result_json -> 'items', '[]'::jsonb) as items
from predictions
where status = 'COMPLETED'
