"""Alembic's entry: runs the migrations on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

import raysafe.records.control_tables
import raysafe.records.hold_table
import raysafe.records.intervention_table
import raysafe.records.monitor_tables
import raysafe.records.session_table  # noqa: F401
from raysafe.records.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
