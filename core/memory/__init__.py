"""What agents know: blocks in their context, everything said to and by them, and notes that outlive them."""
