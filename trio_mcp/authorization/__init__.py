"""Protecting a server: which requests have a valid token, and what their principals may do."""
