"""How the data that ships was made."""
