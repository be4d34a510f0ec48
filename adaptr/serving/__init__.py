"""What servers make of an adapter, tensor by tensor: a profile a server, data with dates and sources, and one judge.

A profile is a file `profiles/<server>.yaml`, which `docs/serving.md` describes; another file is another server.
"""
