"""Install, roll back and uninstall a deployment under systemd."""
