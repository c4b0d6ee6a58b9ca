"""The language model that ships with the project, its texts, and the programs that made it (see README.md)."""
