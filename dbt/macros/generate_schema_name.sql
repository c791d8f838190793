{# The schemas' names as they are written, without the target's in front: analysts are granted `marts` by name. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
