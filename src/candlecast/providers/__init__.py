"""What knows the outside world; returns bars, and the rows it refused."""
