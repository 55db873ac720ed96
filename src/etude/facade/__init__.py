"""The Trainer's public methods by topic; `etude.trainer` joins them."""
