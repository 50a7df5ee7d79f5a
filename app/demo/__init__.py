"""Five weeks of generated traffic with two planted incidents, sent through the real port and explained."""
