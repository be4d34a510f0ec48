"""One adapter in another format, method or rank, and as a server wants it."""
