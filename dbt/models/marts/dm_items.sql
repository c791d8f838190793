with items as (
    select * from {{ ref("stg_items") }}
),

item_days as (
    select * from {{ ref("dm_item_daily") }}
),

seen as (
    select distinct item_id from item_days
)

select item_id, items.title, items.genres
from items
full join seen using (item_id)
