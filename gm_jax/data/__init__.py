"""Where images come from, and drawing batches of them."""
