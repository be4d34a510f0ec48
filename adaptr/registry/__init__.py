"""Adapters as things that people publish, pin, find, verify and trust.

`reference` says where an artifact is, `manifest` what it is made of, `store` keeps it here, `remotes` carry it, `pack`
makes one of an adapter. Nothing here imports torch or numpy.
"""
