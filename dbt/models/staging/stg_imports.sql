with data_sources as (
    select * from {{ source("recstream", "data_sources") }}
)

select source, name, interactions, imported_at from data_sources
