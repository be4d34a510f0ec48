"""The writers of AdapterHub's kinds of configuration."""
