"""What the sysadmin wrote: read, checked, compared, and handed on as `resolved` forms."""
