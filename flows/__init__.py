"""What happens, in which order: one flow a file."""
