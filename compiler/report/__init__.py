"""Report: print diagnostics and each command's result; no rule, no probe."""
