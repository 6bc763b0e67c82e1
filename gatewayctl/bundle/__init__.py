"""The support bundle: what is gathered, and the one function that everything in it goes through."""
