"""People who score: the page where they compare and rate, their agreement, and which pair to ask about next."""
