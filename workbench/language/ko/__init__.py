"""The pack of Korean; what in it is Python is :mod:`workbench.language.ko.checks`."""
