"""What a user types after `diffsde`: a file a verb."""
