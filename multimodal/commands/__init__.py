"""The verbs of the command, a file each: `main(words) -> status`; torch comes when one runs."""
