"""Where every record came from and what it touched, over all rounds of a persona."""
