"""What tests of Whimbrel, ours and yours, are made of. Nothing in the product imports it."""
