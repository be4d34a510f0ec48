"""What llama.cpp does to a model: its names, the order of rows, and blocks of fewer bits."""
