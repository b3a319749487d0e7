"""Several models, one forecast: weighed by evidence that none of them had a hand in."""
