"""Alembic runs this for every command: the migrations, in the transaction that meta.store has opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
