"""What is out there: asks engines who they are and whether they are well, and notices changed files."""
