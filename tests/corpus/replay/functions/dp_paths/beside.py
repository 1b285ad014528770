def fail():
    raise ValueError("beside")
