"""What cache is made of: its options, its keys, its entries, and calls that share an answer."""
