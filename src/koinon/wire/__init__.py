"""Every message that crosses a process boundary, numbered in one catalogue."""
