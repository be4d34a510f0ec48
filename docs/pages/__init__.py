"""The generated documents, a file each."""
