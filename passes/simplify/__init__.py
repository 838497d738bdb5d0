"""Exact rewrite rules."""
