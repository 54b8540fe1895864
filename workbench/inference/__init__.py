"""Models that answer: endpoints, a judge, base models with adapters, and the engines."""

from workbench.inference import late_compiler

late_compiler.install()
