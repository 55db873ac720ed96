"""What only several processes can show."""
