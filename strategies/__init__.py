"""Strategies: what the coordinator does with a sum, and nothing that needs an individual delta. numpy only."""
