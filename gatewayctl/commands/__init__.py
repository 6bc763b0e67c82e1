"""One file per noun; each is imported only when its command is called (gatewayctl/app.py lists them)."""
