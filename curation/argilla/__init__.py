"""All that knows Argilla: its embedded server, its SDK, the rows pushed and the reviews pulled."""
