"""What Alembic runs: the migrations, on the connection that `database.migrate` hands over, in one transaction."""

from alembic import context

from bot.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite's too: the driver's own transactions are off and BEGIN is ours
)
with context.begin_transaction():
    context.run_migrations()
