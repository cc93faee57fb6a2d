"""Deploy: what touches a host and what runs on it."""
