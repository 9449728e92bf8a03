"""Kept records: agents as an earlier version of Turnstile left them. Each folder here is one version of the record."""
