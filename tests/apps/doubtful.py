"""Takes one argument, and its name says nothing of what it is."""


def application(request):
    raise AssertionError(request)
