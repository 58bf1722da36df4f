"""What a night costs at size: the real steps as processes, their time and memory."""
