"""Models that answer: endpoints, a judge, base models with adapters, and the engines."""
