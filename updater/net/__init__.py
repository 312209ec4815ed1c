"""HTTP out, with its deadline, its credentials and its errors in words; addresses; when to try again."""
