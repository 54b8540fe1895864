"""From candidate rows, through filters and people's review, to splits."""
