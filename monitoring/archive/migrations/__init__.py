"""Migrations of the archive's schema, for Alembic. Published ones never change."""
