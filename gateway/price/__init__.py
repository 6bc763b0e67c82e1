"""What requests cost: callers, us, and what is left of a budget. Pure: whole thousand-millionths of a currency, no float, no clock."""
