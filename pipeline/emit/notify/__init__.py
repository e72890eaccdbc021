"""Notices: what a person should hear of, as mails."""
