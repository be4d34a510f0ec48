"""The client of OCI registries: HTTP with care, accounts and tokens, and the endpoints that adaptr uses.

`http` sends and follows, `address` and `places` say where to, `retry` when again; `challenge`, `auth`, `pins` and
`credentials` say who is asking; `registry` and `upload` are the endpoints; `refusal` puts a registry's no into words;
`redaction` keeps secrets out of logs.
"""
