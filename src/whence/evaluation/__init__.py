"""How good an answer is: recall, intervals, protocols, reports."""
