"""What rate_limit and budget count with: amounts, money, windows, whose they are."""
