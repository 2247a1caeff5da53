"""What the trainers read: renders and latents on disk."""
