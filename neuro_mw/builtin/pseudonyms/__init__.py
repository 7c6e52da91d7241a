"""What stands for personal data: names, fakes and hashes, the numbers of a session, and the way back."""
