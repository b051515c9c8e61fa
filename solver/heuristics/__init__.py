"""Methods that find placements without proving anything; a file per method."""
