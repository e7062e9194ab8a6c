"""Published weights: finding, recognising, converting, storing and exporting them."""
