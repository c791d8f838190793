{# The moment that this run counts as now. #}
{% macro build_moment() -%}
    '{{ var("as_of") or run_started_at.isoformat() }}'::timestamptz
{%- endmacro %}


{#
    The first day (UTC, ISO 8601) that an incremental run calculates anew, or none for all of them: those since the
    model's last build and `lookback_days` more. An import brings old days, or removes some, so everything is
    calculated again after one; for an hour, because `imported_at` is when the import began.
#}
{% macro first_day() %}
    {% set imports = ref("stg_imports") %}
    {% if not (execute and is_incremental()) %}
        {{ return(none) }}
    {% endif %}
    {% set query %}
        select ((last_build at time zone 'UTC')::date - {{ var("lookback_days") | int }})::text
        from (select max(computed_at) as last_build from {{ this }}) as builds
        where not exists (
            select from {{ imports }} as imports where imports.imported_at > builds.last_build - interval '1 hour'
        )
    {% endset %}
    {% set found = run_query(query).columns[0].values() %}
    {{ return(found[0] if found else none) }}
{% endmacro %}


{# The first instant of a day, as a constant that PostgreSQL can push into views and compare with an index. #}
{% macro day_start(day) -%}
    '{{ day }} 00:00:00+00'::timestamptz
{%- endmacro %}


{# `where` for rows whose moment is on or after `day`, `margin` earlier included; nothing where there is no first day. #}
{% macro where_since(column, day, margin="0 minutes") -%}
    {%- if day -%}
        where {{ column }} >= {{ day_start(day) }} - interval '{{ margin }}'
    {%- endif -%}
{%- endmacro %}


{#
    The same for requests. Their UUIDv7 begins with its milliseconds, and `predictions` is partitioned by it: the bound
    on it leaves whole months unread. A day earlier, for clocks that differ.
#}
{% macro where_requested_since(day, margin="0 minutes") -%}
    {%- if day -%}
        {%- set midnight = modules.datetime.datetime.fromisoformat(day ~ "T00:00:00+00:00") -%}
        {%- set prefix = "%012x" % ((midnight.timestamp() | int - 86400) * 1000) -%}
        {{ where_since("created_at", day, margin) }}
            and request_id >= '{{ prefix[:8] }}-{{ prefix[8:] }}-0000-0000-000000000000'::uuid
    {%- endif -%}
{%- endmacro %}


{#
    An incremental strategy: the days calculated anew replace those that were there, whole. Unlike delete+insert by a
    key it also removes rows that have no successor, such as a session that a late event joined to another.
#}
{% macro get_incremental_replace_days_sql(arguments) %}
    {% set day = first_day() %}
    {% set columns = get_quoted_csv(arguments["dest_columns"] | map(attribute="name")) %}
    delete from {{ arguments["target_relation"] }} {% if day %} where report_date >= '{{ day }}' {% endif %};
    insert into {{ arguments["target_relation"] }} ({{ columns }})
    select {{ columns }} from {{ arguments["temp_relation"] }};
{% endmacro %}
