"""Run a bundle's own launch.sh and read how far it is."""
