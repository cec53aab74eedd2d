"""Networks run over whole studies, and what is written of them."""
