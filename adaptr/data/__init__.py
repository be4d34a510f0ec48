"""Records: what people train and measure on, and where each of them stands."""
