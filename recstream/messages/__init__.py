"""Topics and what travels on them: declared once, encoded and validated in one place. No I/O."""
