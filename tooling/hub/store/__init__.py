"""What the embedded Hub keeps: git repositories, large files, and a database."""
