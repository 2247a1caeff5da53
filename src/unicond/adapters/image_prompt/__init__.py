"""Adapters that let a network look at pictures beside its words: IP-Adapter."""
