"""What is put into a network: its weights, their files, and the processors that use them."""
