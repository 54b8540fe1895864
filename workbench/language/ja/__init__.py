"""The pack of Japanese; what in it is Python is :mod:`workbench.language.ja.checks`."""
