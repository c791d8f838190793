#!/bin/sh
# Run by PostgreSQL's image at the first start of an empty volume: the services' role owns the database and is no
# superuser. The superuser loses its password: it is for `docker compose exec postgres psql -U postgres` only.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE sasrec LOGIN CREATEROLE PASSWORD :'password';
ALTER DATABASE sasrec OWNER TO sasrec;
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
