"""What the files of a folder of pyreft's are called."""

SETTINGS, BEGINS, ENDS = "config.json", "intkey_", ".bin"
