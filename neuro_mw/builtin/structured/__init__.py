"""What structured_output is made of: where JSON stands in a text, what it has to be, how it is mended."""
