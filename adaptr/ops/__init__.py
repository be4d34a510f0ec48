"""What people do with adapters: merge, unmerge, verify, convert."""
