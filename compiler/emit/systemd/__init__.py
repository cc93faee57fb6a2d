"""systemd's units of a bundle, their names and their sandbox."""
