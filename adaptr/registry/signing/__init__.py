"""Signatures in the OpenSSF model-signing format, version 1.0: offline, by keys or certificates.

`statement` says what is signed, `bundle` how, `keys` and `certificates` by whom; `artifact` signs what is in the store,
`disk` what lies in a folder; `policy` is what this machine asks for.
"""
