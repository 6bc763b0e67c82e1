"""Who may use a limited engine now: workers ask for seats, control counts them exactly and keeps the lines before full ones."""
