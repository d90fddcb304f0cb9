"""What is searched: images and what is known of them, filters, and changes while it is in use."""
