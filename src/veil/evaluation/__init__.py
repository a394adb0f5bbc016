"""Stage 2: judge, attack and measure an anonymised set, whatever made it."""
