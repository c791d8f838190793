with items as (
    select * from {{ source("recstream", "items") }}
)

select item_id, title, genres from items
