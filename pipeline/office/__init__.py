"""What billing staff do: commands sent and their results awaited, accounts read, statements, the audit."""
