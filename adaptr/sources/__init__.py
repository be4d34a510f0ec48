"""Adapters as they are given: opened in whatever format they are, and named by digest."""
