"""What several formats are made of: each piece once, and no format knows another."""
