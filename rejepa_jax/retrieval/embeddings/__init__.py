"""The exported file: its columns, its writer and readers, and what lies beside it."""
