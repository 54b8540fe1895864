"""The stages of a round, one file each: read once, call the room, write once."""
