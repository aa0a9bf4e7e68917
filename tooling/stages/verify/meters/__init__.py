"""What is measured while the files of one person are decoded side by side."""
