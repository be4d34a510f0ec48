"""Tools whose adapters are recognised and can't be read yet, one a file. One that learns to read moves up."""
