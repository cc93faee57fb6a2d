"""A deployment on this machine's CPU: set up, launched, asked, measured, stopped."""
