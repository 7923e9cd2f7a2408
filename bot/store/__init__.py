"""The only code that talks to the database. It keeps what happened; the flows decide what happens."""

from bot.store.store import JournalEntry, Store

__all__ = ["JournalEntry", "Store"]
