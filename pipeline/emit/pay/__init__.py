"""Payments: a gateway, and the worker that answers `recharge_requested`."""
