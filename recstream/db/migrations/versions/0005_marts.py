"""The schema that dbt fills for analysts, and the role that may read it and nothing else."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Roles belong to the server, not to a database: another database's migration may have made it, or make it now.
    op.execute("""
        DO $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'analyst') THEN
                CREATE ROLE analyst LOGIN;
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'The role analyst is missing, and % may not make it', current_user
                USING HINT = 'As an administrator: CREATE ROLE analyst LOGIN; or ALTER ROLE ... CREATEROLE;';
        END
        $$
    """)
    op.execute("CREATE SCHEMA marts")
    op.execute("GRANT USAGE ON SCHEMA marts TO analyst")
    # Of whatever the role that migrates, which dbt connects as too, makes there later.
    op.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA marts GRANT SELECT ON TABLES TO analyst")
    # SELECT * FROM dm_daily_stats, for every role. New connections have it.
    op.execute("""
        DO $$
        BEGIN
            EXECUTE format('ALTER DATABASE %I SET search_path = "$user", public, marts', current_database());
        END
        $$
    """)


def downgrade() -> None:
    # The role stays: other databases of the server may know it.
    op.execute("""
        DO $$
        BEGIN
            EXECUTE format('ALTER DATABASE %I RESET search_path', current_database());
        END
        $$
    """)
    op.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA marts REVOKE SELECT ON TABLES FROM analyst")
    op.execute("DROP SCHEMA marts CASCADE")
