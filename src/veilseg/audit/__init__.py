"""What a curious server learns: attacks, each with controls that show that it works."""
