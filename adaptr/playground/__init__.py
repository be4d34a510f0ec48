"""Small things to try every command on, made in a few seconds: `python -m adaptr.playground`.

A folder gets a base of 90,000 parameters with its tokenizer, a fine-tuned one, two LoRAs that were trained on it, one
of them as a folder of PEFT's too, and records to learn from and to measure on; with `images`, bases and LoRAs of image
models of a few layers. Nothing is downloaded. The pages of documentation name these, so that each line of them runs as
it stands. What a tiny model answers is noise; what commands do with it is what they do with any.
"""
